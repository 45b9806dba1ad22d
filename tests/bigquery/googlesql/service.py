"""Calls into Google's GoogleSQL (the PyPI package zetasql: its local service as WebAssembly).

Used instead of the package's own client, which compiles 28 MB of WebAssembly in every process,
for 25 s, and copies byte by byte. wasmtime's cache keeps the compiled module between processes.
"""

import ctypes
import functools
import threading
from collections import OrderedDict
from importlib.resources import files
from typing import Any, TypeVar

import wasmtime
from google.protobuf.message import Message
from zetasql.wasi import get_wasm_path
from zetasql.wasi._pb2.zetasql.local_service.local_service_pb2 import (
    RegisterCatalogRequest,
    RegisterResponse,
    UnregisterRequest,
)

M = TypeVar("M", bound=Message)

REGISTERED_CATALOGUES = 24
"""How many catalogues an instance keeps; each has all of GoogleSQL's functions, some megabytes."""


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
        self._catalogues: OrderedDict[bytes, int] = OrderedDict()

    def answer(self, method: str, request: Any) -> bytes:
        """The answer to a request, which may hold a catalogue."""
        if "simple_catalog" not in request.DESCRIPTOR.fields_by_name:
            return self.call(method, request.SerializeToString())
        wanted = RegisterCatalogRequest(simple_catalog=request.simple_catalog)
        asked = type(request)()
        asked.CopyFrom(request)
        asked.ClearField("simple_catalog")
        if "table_content" in request.DESCRIPTOR.fields_by_name:
            for name, content in request.table_content.items():
                wanted.table_content[name].CopyFrom(content)
            asked.ClearField("table_content")
        asked.registered_catalog_id = self._registered(wanted)
        return self.call(method, asked.SerializeToString())

    def _registered(self, wanted: RegisterCatalogRequest) -> int:
        """The number under which the instance has the catalogue and its rows.

        Making one takes 25 ms, for GoogleSQL's own functions, and a short statement is analysed in
        a fifth of that. Statements that name the same tables share one.
        """
        key = wanted.SerializeToString(deterministic=True)
        if key in self._catalogues:
            self._catalogues.move_to_end(key)
        else:
            answer = RegisterResponse.FromString(self.call("RegisterCatalog", key))
            self._catalogues[key] = answer.registered_id
            if len(self._catalogues) > REGISTERED_CATALOGUES:
                _, oldest = self._catalogues.popitem(last=False)
                gone = UnregisterRequest(registered_id=oldest)
                self.call("UnregisterCatalog", gone.SerializeToString())
        return self._catalogues[key]

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
        try:
            response = _instance().answer(method, request)
        except (wasmtime.Trap, wasmtime.WasmtimeError):
            # Calls that went before can break an instance: a new one has the last word.
            _instance.cache_clear()
            try:
                response = _instance().answer(method, request)
            except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
                _instance.cache_clear()
                raise Crash(f"GoogleSQL crashed in {method}: {error}") from error
    answer: M = response_type.FromString(response)
    return answer
