"""The gRPC runtime: channels and servers of grpcio that obey the mesh. Needs the extra ``grpc``."""
