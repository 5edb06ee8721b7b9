"""Numbers as Grafana writes them, for the units that the dashboards use."""

SI = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")]
TIME = [(1, " s"), (1e-3, " ms"), (1e-6, " µs")]
TAILS = {"reqps": " req/s", "cps": " /s", "flops": "FLOP/s", "short": "", "none": ""}


def _digits(value, digits):
    """`value` to so many digits, never with an exponent."""
    text = f"{value:.{digits}g}"
    return f"{float(text):.0f}" if "e+" in text else text


def text(value, unit, digits=3):
    if unit == "percentunit":
        return f"{_digits(100 * value, digits)} %"
    if value == 0 and unit == "s":
        return "0"
    steps = TIME if unit == "s" else SI
    factor, name = next((step for step in steps if abs(value) >= step[0]), steps[-1])
    if unit == "s":
        tail = ""
    elif unit.startswith("suffix:"):
        tail = unit.removeprefix("suffix:")
    else:
        tail = TAILS[unit]
    space = " " if unit == "flops" else ""
    return f"{_digits(value / factor, digits)}{space}{name}{tail}"
