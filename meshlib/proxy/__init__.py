"""The standalone proxy: listeners, downstream codecs and drivers around the same exchange that the library runs."""
