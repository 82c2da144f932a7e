"""Runs clickhouse-local out of libchdb.so: the one current ClickHouse that a package registry carries.

usage: clickhouse-local.py LIBCHDB_SO ARGUMENT...
"""
import ctypes
import sys

library = ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
library.chdb_query_cmdline.restype = ctypes.c_void_p
library.chdb_query_cmdline.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)]
library.chdb_result_error.restype = ctypes.c_char_p
library.chdb_result_error.argtypes = [ctypes.c_void_p]

arguments = [b"clickhouse"] + [argument.encode() for argument in sys.argv[2:]]
vector = (ctypes.c_char_p * (len(arguments) + 1))(*arguments, None)
error = library.chdb_result_error(library.chdb_query_cmdline(len(arguments), vector))
sys.exit(error.decode() if error else 0)
