import runpy
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "booking.py"


def test_what_cannot_be_kept_is_undone(capsys):
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out.splitlines()
    # Both are booked at the same time.
    printed[-2:] = sorted(printed[-2:])
    assert printed == [
        "paid for flight of ada and room of ada",
        "broke bob: the card is declined",
        "  in step 'pay' (trip/2:pay)",
        "paid for train of grounded eve and room of grounded eve",
        "the airline's breaker is open",
        "",
        "What happened:",
        "  flight for ada",
        "  room for ada",
        "  flight for broke bob",
        "  room for broke bob",
        "  cancelled: room of broke bob",
        "  cancelled: flight of broke bob",
        "  room for grounded eve",
        "  train for grounded eve",
    ]
