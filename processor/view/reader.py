"""Reads from the served generation: many questions in one round trip, and never across two copies.

Questions that come in while a round trip is under way go together into the next, as one script
with one reply: packing commands and reading replies one by one costs more than all else here. The
rule: an answer counts only if its generation was still served *after* it was read, since a
generation is dropped only once another is served. Otherwise it is read again from the other one.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis.asyncio
from redis.exceptions import RedisError

from processor.view.keys import GenerationKeys, Names
from processor.view.plan import Command
from processor.view.refusal import in_words
from processor.view.settings import ViewSettings
from schemas.queries import ViewUnavailable

UNDER_WAY_MAX: Final = 2  # Round trips at once: one is decoded while the other is away.
WORDS_A_TRIP: Final = 2_000  # Some 500 commands; more only for one question alone.
TRIES_MAX: Final = 5  # Generations are switched by hand: twice during one question is rare.

REBUILDING: Final = "the view is being rebuilt: ask again in a moment"

# Besides Redis' own commands, which are reads here, and as many words as a script can hand on:
# `STOCK most key…` gives the rows of these hashes, hash by hash; `MEMBERS most set…` the members of
# these sets, set by set; `STOCK EVERYWHERE most set… begin…` the rows of hashes whose keys begin so
# and end as the members of the set of each beginning say. They are counted before any is read,
# since Redis does nothing else meanwhile: more than `most` of them are answered by nothing. A
# refusal is an answer like another.
_RUN: Final = b"""
local function each(count, read, most, keys, first, last)
  local sizes = {}
  for number = first, last do
    local size = redis.pcall(count, keys[number])
    if type(size) == 'table' then return size end
    most = most - size
    if most < 0 then return false end
    sizes[number] = size
  end
  local found = {}
  for number = first, last do
    found[#found + 1] = sizes[number] == 0 and {} or redis.pcall(read, keys[number])
  end
  return found
end

local function everywhere(most, first, last)
  local products = (last - first + 1) / 2
  local places = each('SCARD', 'SMEMBERS', most, ARGV, first, first + products - 1)
  if not places or places.err then return places end
  local keys = {}
  for number, names in ipairs(places) do
    local begin = ARGV[first + products + number - 1]
    for _, name in ipairs(names) do keys[#keys + 1] = begin .. name end
  end
  return each('HLEN', 'HVALS', most, keys, 1, #keys)
end

local told = {}
local first = 1
while first <= #ARGV do
  local last = first + tonumber(ARGV[first])
  local name = ARGV[first + 1]
  local answer
  if name == 'STOCK' then
    answer = each('HLEN', 'HVALS', tonumber(ARGV[first + 2]), ARGV, first + 3, last)
  elseif name == 'STOCK EVERYWHERE' then
    answer = everywhere(tonumber(ARGV[first + 2]), first + 3, last)
  elseif name == 'MEMBERS' then
    answer = each('SCARD', 'SMEMBERS', tonumber(ARGV[first + 2]), ARGV, first + 3, last)
  else
    answer = redis.pcall(unpack(ARGV, first + 1, last))
  end
  told[#told + 1] = answer
  first = last + 1
end
return told
"""

Build = Callable[[GenerationKeys], Sequence[Command]]


class _Question:
    """Commands that wait for the next round trip."""

    __slots__ = ("commands", "future", "words")

    def __init__(self, commands: Sequence[Command], future: "asyncio.Future[_Trip]") -> None:
        self.commands = commands
        self.words = sum(map(len, commands))
        self.future = future


class _Trip:
    """Answers to one question, the generation served after them, and its configuration's count."""

    __slots__ = ("answers", "changes", "served")

    def __init__(self, answers: list[Any], served: bytes | None, changes: bytes | None) -> None:
        self.answers = answers
        self.served = served
        self.changes = changes


class Reader:
    """Asks Redis for one asyncio loop.

    Attributes:
        changes: counter of configuration changes in the served generation, as last seen.
        keys: the generation that was last seen served.

    """

    def __init__(self, settings: ViewSettings) -> None:
        self._names = Names(settings.prefix)
        self._redis: Any = redis.asyncio.Redis.from_url(**settings.connection())
        self._waiting: list[_Question] = []
        self._trips: set[asyncio.Task[None]] = set()
        self.keys: GenerationKeys | None = None
        self.changes: bytes | None = None

    async def read(self, build: Build) -> list[Any]:
        """Answers to the commands that `build` makes for the served generation.

        Raises:
            ViewUnavailable: nothing is served, or Redis does not answer.

        """
        for _ in range(TRIES_MAX):
            keys = self.keys or await self._find()
            trip = await self._ask(build(keys))
            self.changes = trip.changes
            if trip.served == keys.name:
                return trip.answers
            self.keys = None
        raise ViewUnavailable(REBUILDING)

    async def plain(self, *command: bytes | str | int) -> Any:
        """Answer to a command that belongs to no generation."""
        return (await self._ask([command])).answers[0]

    async def close(self) -> None:
        """Let go of the connections; what is still asked gets no answer."""
        for task in list(self._trips):
            task.cancel()
        for question in self._waiting:
            question.future.cancel()
        self._waiting.clear()
        await self._redis.aclose()

    async def _find(self) -> GenerationKeys:
        trip = await self._ask([])
        if trip.served is None:
            raise ViewUnavailable(REBUILDING)
        self.keys = self._names.generation(trip.served)
        return self.keys

    async def _ask(self, commands: Sequence[Command]) -> _Trip:
        future: asyncio.Future[_Trip] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Question(commands, future))
        self._set_off()
        return await future

    def _set_off(self) -> None:
        """Start a round trip, unless enough are under way; what waits then goes with the next."""
        if not self._waiting or len(self._trips) >= UNDER_WAY_MAX:
            return
        count = total = 0
        for question in self._waiting:
            total += question.words
            if count and total > WORDS_A_TRIP:
                break
            count += 1
        questions, self._waiting = self._waiting[:count], self._waiting[count:]
        task = asyncio.create_task(self._travel(questions))
        self._trips.add(task)
        task.add_done_callback(self._returned)

    def _returned(self, task: "asyncio.Task[None]") -> None:
        self._trips.discard(task)
        self._set_off()

    async def _travel(self, questions: Sequence[_Question]) -> None:
        changes = self._names.live if self.keys is None else self.keys(b"cv")
        words: list[bytes | str | int] = []
        for question in questions:
            for command in question.commands:
                words.append(len(command))
                words += command
        words += (3, "MGET", self._names.live, changes)
        try:
            *answers, last = await self._redis.execute_command("EVAL", _RUN, 0, *words)
        except Exception as error:  # noqa: BLE001 - nobody may wait for ever
            self._fail(questions, ViewUnavailable(in_words(error)))
            return
        except asyncio.CancelledError:
            self._fail(questions, ViewUnavailable("closed"))
            raise
        if isinstance(last, RedisError):
            self._fail(questions, ViewUnavailable(in_words(last)))
            return
        served, changed = last
        start = 0
        for question in questions:
            end = start + len(question.commands)
            _answer(question, _Trip(answers[start:end], served, changed))
            start = end

    @staticmethod
    def _fail(questions: Sequence[_Question], error: ViewUnavailable) -> None:
        for question in questions:
            if not question.future.done():
                question.future.set_exception(error)


def _answer(question: _Question, trip: _Trip) -> None:
    if question.future.done():  # Who asked has gone.
        return
    broken = next((one for one in trip.answers if isinstance(one, RedisError)), None)
    if broken is None:
        question.future.set_result(trip)
    else:
        question.future.set_exception(ViewUnavailable(in_words(broken)))
