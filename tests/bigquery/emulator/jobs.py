from fastapi import APIRouter

router = APIRouter()


def install() -> None:
    pass
