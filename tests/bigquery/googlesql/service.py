"""Calls into Google's GoogleSQL (the PyPI package zetasql: its local service as WebAssembly).

Used instead of the package's own client, which compiles 28 MB of WebAssembly in every process,
for 25 s, and copies byte by byte. wasmtime's cache keeps the compiled module between processes.
"""

import ctypes
import functools
import threading
from importlib.resources import files
from typing import Any, TypeVar

import wasmtime
from google.protobuf.message import Message
from zetasql.wasi import get_wasm_path

M = TypeVar("M", bound=Message)


class ServiceError(Exception):
    """What GoogleSQL answered instead of a result; its message is the answer."""


class Crash(ServiceError):
    """A failed internal check of GoogleSQL, such as an entry that a catalogue must not have."""


class _Instance:
    """One instance of the service. It is dead after a trap."""

    exports: Any

    def __init__(self) -> None:
        config = wasmtime.Config()
        config.shared_memory = True
        config.cache = True
        engine = wasmtime.Engine(config)
        wasi = wasmtime.WasiConfig()
        wasi.preopen_dir(str(files("tzdata") / "zoneinfo"), "/usr/share/zoneinfo")
        self.store = wasmtime.Store(engine)
        self.store.set_wasi(wasi)
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        module = wasmtime.Module.from_file(engine, get_wasm_path())
        self.exports = linker.instantiate(self.store, module).exports(self.store)
        self.exports["_initialize"](self.store)

    def call(self, method: str, request: bytes) -> bytes:
        address = self._write(request)
        size_address = self._export("wasm_malloc", 4)
        result = self._export(f"ZetaSqlLocalService_{method}", address, len(request), size_address)
        if result == 0:
            size = self._export("wasm_get_last_error_size")
            error = self._read(self._export("wasm_get_last_error"), size).decode()
        else:
            size = int.from_bytes(self._read(size_address, 4), "little")
            response = self._read(result, size)
            self._export("wasm_free", result)
        self._export("wasm_free", address)
        self._export("wasm_free", size_address)
        if result == 0:
            raise ServiceError(error)
        return response

    def _export(self, name: str, *arguments: int) -> Any:
        return self.exports[name](self.store, *arguments)

    def _base(self) -> int:
        # Asked anew each time: growing the memory may move it.
        memory: Any = self.exports["memory"]
        return ctypes.addressof(memory.data_ptr().contents)

    def _write(self, data: bytes) -> int:
        address: int = self._export("wasm_malloc", max(len(data), 1))
        ctypes.memmove(self._base() + address, data, len(data))
        return address

    def _read(self, address: int, size: int) -> bytes:
        return ctypes.string_at(self._base() + address, size)


_lock = threading.Lock()
_instance = functools.cache(_Instance)


def call(method: str, request: Message, response_type: type[M]) -> M:
    """The answer of one method of the service; safe to use from several threads."""
    with _lock:
        data = request.SerializeToString()
        try:
            response = _instance().call(method, data)
        except (wasmtime.Trap, wasmtime.WasmtimeError):
            # Calls that went before can break an instance: a new one has the last word.
            _instance.cache_clear()
            try:
                response = _instance().call(method, data)
            except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
                _instance.cache_clear()
                raise Crash(f"GoogleSQL crashed in {method}: {error}") from error
    answer: M = response_type.FromString(response)
    return answer
