"""People of a simulated town: drivers with cards and phones, strangers, thieves. They see the car and not the box."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cloud_sync.documents import BoxSigner, Refused
from cloud_sync.documents.conversation import Op, Wish
from onboard.core.events import CardCredential, LockButtonPressed
from onboard.core.gatt import GattRefused
from onboard.core.grants import Assurance
from sim.phone import GattError, visit
from sim.phone_call import Call
from sim.phone_wallet import Bag, Wallet
from sim.world.town import AwayError, Booking

if TYPE_CHECKING:
    from sim.world.car import Car
    from sim.world.play import World

OPENINGS_MAX: Final = 6
"""So often somebody tries to get in, then goes home."""
LOCKINGS_MAX: Final = 60
"""And so often to lock: nobody leaves a car open that they pay for, but nobody stays for ever."""
LOOK_S: Final = 4.0


@dataclass
class Person:
    """Somebody with a card and a phone of their own."""

    name: str
    card: bytes
    key: BoxSigner = field(repr=False)
    wallets: dict[bytes, Wallet] = field(default_factory=dict)
    bags: dict[str, Bag] = field(default_factory=dict)
    stolen: bool = False


class People:
    """What they do. Each works on the world that it is given."""

    def __init__(self, world: World, names: tuple[str, ...]) -> None:
        self._world = world
        self._rng = world.rng("people")
        self.everybody = [Person(name, name.encode()[:8].ljust(8, b"!"), BoxSigner.generate()) for name in names]

    async def rental(self, who: Person, car: Car, booking: Booking) -> None:
        """Come, get in, drive, lock, go: as far as the car lets them."""
        rng, world = self._rng, self._world
        await world.sleep_until(booking.start_s + rng.uniform(-400, 900) - world.origin_s)
        self._fetch(who, booking)
        car.attended += 1
        try:
            if not await self._get_in(who, car, booking):
                world.tale.counts["went home"] += 1
                return
            await self._drive(who, car, booking)
            await self._leave(who, car, booking)
        finally:
            car.attended -= 1
        self._carry_home(who, car)

    def _fetch(self, who: Person, booking: Booking) -> None:
        """Have the phone fetch its pass, where there is network; or have it from before."""
        town = self._world.town
        with contextlib.suppress(AwayError):
            wallet = town.grant(booking, who.key)
            if wallet is not None:
                who.wallets[booking.id] = wallet

    def _carry_home(self, who: Person, car: Car) -> None:
        bag = who.bags.get(car.name)
        if bag is not None:
            self._world.keep_running(self._exchange(bag))

    async def _exchange(self, bag: Bag) -> None:
        await self._world.sleep_until_healed(self._rng.uniform(60, 7200))
        with contextlib.suppress(AwayError):
            await bag.exchange(self._world.town)

    async def _get_in(self, who: Person, car: Car, booking: Booking) -> bool:
        for _ in range(OPENINGS_MAX):
            if not car.locked:
                rental = car.state.kept.rental if car.state is not None else None
                # A car that stands open is another's, or nobody's: only their own one is got into.
                if rental is not None and rental.booking.id == booking.id:
                    return True
            await self._ask(who, car, booking, Op.UNLOCK)
            await self._look()
            if not car.locked:
                return self._mine(car, booking)
            await self._patience()
        return False

    def _mine(self, car: Car, booking: Booking) -> bool:
        """Tell whether it is this booking that opened it; a person knows by having seen it open."""
        state = car.state
        if state is None:
            return True
        return state.kept.rental is not None and state.kept.rental.booking.id == booking.id

    async def _drive(self, who: Person, car: Car, booking: Booking) -> None:
        rng, world = self._rng, self._world
        stations = {each.id: each for each in world.stations}
        car.move_door(is_open=True)
        await world.sleep(rng.uniform(2, 8))
        car.move_door(is_open=False)
        world.tale.tell(who.name, f"drives {car.name}")
        if self._chance("stops_on_the_way"):
            await car.drive(world.stations[-1], rng.uniform(500, 3000))
            for _ in range(rng.choice((1, 1, 4))):
                if not await self._lock(who, car, booking):
                    break
                await world.sleep(rng.choice((3, 60, 1500)) * rng.random())
                if not await self._get_back_in(who, car, booking):
                    return
        await car.drive(stations[booking.dropoff], rng.uniform(800, 4000))

    async def _get_back_in(self, who: Person, car: Car, booking: Booking) -> bool:
        """Open the own rental again, whatever it takes."""
        for _ in range(OPENINGS_MAX * 4):
            await self._ask(who, car, booking, Op.UNLOCK)
            await self._look()
            if not car.locked:
                car.move_door(is_open=True)
                await self._world.sleep(1.0)
                car.move_door(is_open=False)
                return True
            await self._patience()
        self._world.tale.tell(who.name, "can't get in again, and walks home")
        self._world.checks.walked_home(car, booking)
        return False

    async def _leave(self, who: Person, car: Car, booking: Booking) -> None:
        if car.locked:
            return
        car.move_door(is_open=True)
        await self._world.sleep(self._rng.uniform(2, 6))
        if self._chance("forgets_door"):
            await self._world.sleep(self._rng.uniform(60, 1200))
        car.move_door(is_open=False)
        await self._lock(who, car, booking)

    async def _lock(self, who: Person, car: Car, booking: Booking) -> bool:
        for attempt in range(LOCKINGS_MAX):
            if attempt == 0 and self._chance("presses_button"):
                car.post(LockButtonPressed())
                await self._world.sleep(1.0)
                car.move_door(is_open=True)
                await self._world.sleep(2.0)
                car.move_door(is_open=False)
            else:
                await self._ask(who, car, booking, Op.LOCK)
            await self._look()
            if car.locked:
                return True
            await self._patience()
            if attempt > OPENINGS_MAX:
                await self._world.sleep(120.0)
        self._world.tale.tell(who.name, "can't lock it, and goes")
        self._world.tale.counts["left open"] += 1
        return False

    async def _ask(self, who: Person, car: Car, booking: Booking, op: Op) -> None:
        """Ask the car, by card or by phone; a card only taps."""
        if booking.by_card or who.stolen:
            answer = await car.tap(CardCredential(who.card, Assurance.UID))
            self._world.tale.tell(who.name, f"holds the card to {car.name}: {' '.join(answer) or 'nothing happens'}")
        else:
            await self.phone(who, car, booking.id, op)

    async def phone(self, who: Person, car: Car, booking: bytes, op: Op, *, brings: bool = True) -> None:
        """Have a phone ask."""
        wallet = who.wallets.get(booking)
        if wallet is None or car.box is None:
            await self._world.sleep(5.0)
            return
        bag = who.bags.setdefault(car.name, Bag(car.name)) if brings else None
        number = self._world.number()
        call = Call(car.box.phones, f"{who.name} {number}")
        box = car.box
        try:
            wish = Wish(self._rng.randbytes(16), op)
            cloud = self._world.town if self._rng.random() < 0.6 else None
            came = await visit(call, wallet, wish, bag, cloud)
            said = f"{came.answer.status} {came.answer.reason}"
        except (GattError, Refused) as error:
            said = f"no answer ({error})"
        finally:
            box.phones.gone(call.name)
        self._world.tale.tell(who.name, f"asks {car.name} by phone to {op.name.lower()}: {said}")

    async def stranger(self, car: Car) -> None:
        """Try a car that is not theirs."""
        who = self._rng.choice(self.everybody)
        car.attended += 1
        try:
            for _ in range(self._rng.randint(1, 4)):
                await car.tap(CardCredential(who.card, Assurance.UID))
                await self._patience()
                wallets = [each for each in who.wallets if not who.stolen]
                if wallets:
                    await self.phone(
                        who, car, self._rng.choice(wallets), self._rng.choice((Op.UNLOCK, Op.LOCK, Op.FINISH))
                    )
        finally:
            car.attended -= 1

    async def thief(self, who: Person, car: Car) -> None:
        """Steal a phone; the town hall hears of it a little later; the thief tries every booking that is in it."""
        who.stolen = True
        self._world.tale.tell(who.name, "the phone is stolen")
        self._world.keep_running(self._report_theft(who))
        for _ in range(8):
            await self._world.sleep(self._rng.uniform(300, 7200))
            for booking in list(who.wallets):
                await self.phone(who, car, booking, Op.UNLOCK, brings=False)

    async def _report_theft(self, who: Person) -> None:
        while True:
            await self._world.sleep(self._rng.uniform(60, 3600))
            try:
                self._world.town.revoke(who.name, who.key)
            except AwayError:
                continue
            return

    async def hostile(self, car: Car) -> None:
        """Write nonsense to a car, and what another phone once wrote."""
        for _ in range(self._rng.randint(1, 20)):
            box = car.box
            if box is None:
                await self._world.sleep(10.0)
                continue
            name = f"hostile {self._world.number()}"
            with contextlib.suppress(GattRefused):
                if self._rng.random() < 0.7:
                    await box.phones.hello(name)
                data = self._rng.randbytes(self._rng.randint(0, 300))
                if self._rng.random() < 0.5:
                    data = len(data).to_bytes(2, "big") + data
                await box.phones.command(name, data)
                await box.phones.result(name)
            box.phones.gone(name)
            self._world.tale.counts["hostile writes"] += 1
            await self._world.sleep(self._rng.uniform(0.1, 5.0))

    async def _look(self) -> None:
        await self._world.sleep(LOOK_S)

    async def _patience(self) -> None:
        await self._world.sleep(self._rng.uniform(0.2, 2.5) if self._chance("impatient") else self._rng.uniform(8, 40))

    def _chance(self, kind: str) -> bool:
        chance = float(getattr(self._world.rates, kind))
        return chance > 0 and self._rng.random() < chance
