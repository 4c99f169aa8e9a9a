"""Attackers as a price list has them, by hand."""

from typing import Any

from ue_audit import prices

Bounds = tuple[float | None, float | None]


def attacker(
    name: str, seconds: float | None, recovery: float | None, bounds: Bounds = (None, None), **more: Any
) -> Any:
    """One that needs nothing but time; `more` overrides."""
    low, high = bounds
    gives = None if recovery is None else {"value": recovery, "low": low, "high": high}
    return {
        "countermeasure": name, "folder": f"d.{name}", "learner": "supervised", "counts": True, "chosen": False,
        "recovery": gives, "prior": None, "raw_images": 0, "start": None, "own_images": 0, "overlap": None,
        "weights": [], "knows": "nothing", "device": "cpu",
        "seconds": {"prior": 0.0, "purification": seconds, "training": 40.0, "total": None, "extra": seconds}, **more,
    }  # fmt: skip


def near(value: float, half: float = 0.05) -> Bounds:
    return value - half, value + half


def jcdp(seconds: float | None = 540, recovery: float = 0.95, bounds: Bounds = (0.9, 1.0), **more: Any) -> Any:
    return attacker("jcdp", seconds, recovery, bounds, **{"raw_images": 2000, "overlap": "disjoint"} | more)


def with_prices(content: dict[str, Any], *lists: tuple[str, list[Any]]) -> dict[str, Any]:
    """The report with these price lists instead of its own."""
    made = [
        prices.listing(protected, "supervised", 0.5, [{"ceiling_recovery": None} | one for one in listed])
        for protected, listed in lists
    ]
    return content | {"prices": made}
