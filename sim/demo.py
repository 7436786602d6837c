"""``amibox demo``: one whole rental on this machine alone, in under a minute of watching."""

from __future__ import annotations

import argparse
import os
import sys
import time
import webbrowser
from typing import Final

from sim.screen import Screen

RATE: Final = 12.0
"""Simulated seconds in a second of watching: five minutes on the road become half a minute."""
PAGE_STAYS_S: Final = 60.0

EPILOG: Final = """exit codes: 0 everything held; 1 something did not; 2 wrong arguments; 130 stopped by Ctrl-C.
Nothing is left behind: no process, no file."""


def main(argv: list[str]) -> int:
    """Play the demo; return the exit code."""
    parser = argparse.ArgumentParser(prog="amibox demo", description=str(__doc__).replace("`", ""), epilog=EPILOG)
    parser.add_argument("--no-browser", action="store_true", help="do not open the page in a browser")
    parser.add_argument("--port", type=int, help="port of the page on this machine (default: any free one)")
    parser.add_argument("--fast", action="store_true", help="shorter pauses, and the network fails for 8 s only")
    args = parser.parse_args(argv)
    if args.port is not None and not 1024 <= args.port <= 65_535:
        parser.error("--port: 1024 to 65535")
    with Screen() as screen:
        return _play(args, screen)


def _play(args: argparse.Namespace, screen: Screen) -> int:
    screen.say("[bold]AmiBox[/]: a shared Citroën AMI is rented, from Bazouges-sous-Hédé to Hédé.")
    screen.say(f"One second here is {RATE:.0f} seconds there. Everything runs on this machine; there is no network.")
    from sim.story import FAST, PACE, Story  # noqa: PLC0415 -- the greeting comes before a second of imports
    from sim.town import Town  # noqa: PLC0415

    with Town(RATE, args.port) as town:
        try:
            screen.heading("Starting")
            town.start(lambda text: screen.tell(town.clock.true_wall_s(), "demo", text))
            screen.say(f"\n  See it happen: [bold underline]{town.web.url}[/]")
            opened = not args.no_browser and _open_browser(town.web.url)
            story = Story(town, screen, FAST if args.fast else PACE)
            story.tell()
            facts, checks = story.result()
        except (OSError, RuntimeError) as error:
            screen.rest()
            screen.say(f"\n[bold red]The demo cannot go on:[/] {error}")
            return 1
        screen.summary(facts, checks)
        if opened or sys.stdout.isatty():
            screen.say(f"\nThe page stays for {PAGE_STAYS_S:.0f} s. Ctrl-C ends it now.")
            time.sleep(PAGE_STAYS_S)
        return 0 if all(check.holds for check in checks) else 1


def _open_browser(url: str) -> bool:
    """Open the page in a window, where there is a desktop with a browser; tell whether one was found."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        browser = webbrowser.get()
        # A plain GenericBrowser is one of those that draw in the terminal, which is taken.
        return type(browser) is not webbrowser.GenericBrowser and browser.open(url)
    except (webbrowser.Error, OSError):
        return False
