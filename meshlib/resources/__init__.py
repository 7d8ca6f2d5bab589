"""The declarative resources: models, reader, loader."""
