"""Write a small paraphrase corpus in the layout of GLUE's MRPC folder.

The sentences are made from templates, so the corpus can be had offline and is the same each time.
A pair is a paraphrase where both sentences tell the same event in other words and another order.
Where it is none, one fact differs: most often the outcome (shares *rose*, shares *slipped*), now
and then who it is about. Two pairs in three are paraphrases, as in MRPC; the best guess from one
sentence alone is right in about 72 % of all pairs, and what comes above that has compared two.

    python make_mrpc.py MRPC/
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

HEADER = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"
TEST_HEADER = "index\t#1 ID\t#2 ID\t#1 String\t#2 String"

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
CITIES = [
    "Austin",
    "Boston",
    "Denver",
    "Geneva",
    "Lisbon",
    "Lyon",
    "Milan",
    "Osaka",
    "Perth",
    "Quito",
    "Seattle",
    "Tunis",
]
FIRMS = [
    "Acorn Foods",
    "Baltic Air",
    "Cobalt Mining",
    "Delta Paper",
    "Ember Motors",
    "Fjord Shipping",
    "Granite Bank",
    "Harbor Steel",
    "Indigo Media",
    "Juniper Drugs",
    "Kestrel Energy",
    "Lumen Optics",
]
PEOPLE = [
    "Anna Weber",
    "Bruno Costa",
    "Carla Diaz",
    "David Okoro",
    "Elena Petrova",
    "Farid Haddad",
    "Grace Lin",
    "Hugo Martin",
    "Ines Duarte",
    "Jonas Berg",
    "Kira Sato",
    "Luis Romero",
]

UP = 0.75
"""Share of first sentences with the first outcome: single words give a learner a first hint."""

# (who it is about, words for one outcome, words for the other, phrasings)
KINDS = (
    (
        FIRMS,
        ["rose", "climbed", "gained", "advanced"],
        ["fell", "dropped", "slipped", "declined"],
        (
            "Shares of {who} {did} {n} percent on {day} , traders in {city} said .",
            "On {day} , {who} shares {did} by {n} percent , according to traders in {city} .",
            "Traders in {city} said the stock of {who} {did} {n} percent on {day} .",
        ),
    ),
    (
        FIRMS,
        ["would buy", "has agreed to acquire", "plans to purchase"],
        ["would sell", "has agreed to divest", "plans to spin off"],
        (
            '{who} said on {day} it {did} a plant in {city} for $ {n} million , " a fair price . "',
            "In a statement on {day} , {who} said that it {did} its rival 's {city} plant at $ {n} "
            "million .",
            "A plant in {city} worth $ {n} million is the one {who} {did} , the company said on "
            "{day} .",
        ),
    ),
    (
        PEOPLE,
        ["was acquitted", "was cleared of all charges", "walked free"],
        ["was convicted", "was found guilty", "was sent to prison"],
        (
            "{who} , {n} , {did} on {day} by a court in {city} .",
            "In {city} on {day} , {n}-year-old {who} {did} after a short trial .",
            'After {n} hours the jury in {city} was done : {who} {did} , " at last , on {day} .',
        ),
    ),
    (
        PEOPLE,
        ["won", "took the title", "finished first"],
        ["lost", "missed the title", "finished last"],
        (
            "{who} {did} in {city} on {day} in front of {n},000 people .",
            "In front of a crowd of {n},000 , {who} {did} on {day} in {city} .",
            "A crowd of {n},000 in {city} saw how {who} {did} on {day} .",
        ),
    ),
    (
        CITIES,
        ["approved", "backed", "voted for"],
        ["rejected", "opposed", "voted against"],
        (
            "Voters in {who} {did} a $ {n} million loan for schools on {day} , {other} reported .",
            "On {day} , the people of {who} {did} school bonds of $ {n} million , said {other} .",
            "A loan of $ {n} million is what {who} {did} on {day} , by the count of {other} .",
        ),
    ),
)


def main() -> None:
    """Write the corpus."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="is made where it does not exist")
    parser.add_argument("--train", type=int, default=3600, help="pairs to train on")
    parser.add_argument("--dev", type=int, default=400, help="pairs to judge by")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    write(asked.folder, asked.train, asked.dev, asked.seed)
    print(f"{asked.train} + {asked.dev} pairs in {asked.folder}")


def write(folder: Path, train: int = 3600, dev: int = 400, seed: int = 1) -> None:
    """Write ``train.tsv``, ``dev.tsv``, ``test.tsv`` and ``dev_ids.tsv``."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = pairs(seed)
    for name, count in (("train", train), ("dev", dev), ("test", dev)):
        found = [next(rows) for _ in range(count)]
        if name == "test":  # GLUE keeps these labels to itself
            lines = [TEST_HEADER, *(f"{i}\t" + "\t".join(r[1:]) for i, r in enumerate(found))]
        else:
            lines = ["\ufeff" + HEADER, *("\t".join(row) for row in found)]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if name == "dev":
            ids = "".join(f"{row[1]}\t{row[2]}\n" for row in found)
            (folder / "dev_ids.tsv").write_text(ids, encoding="utf-8")


def pairs(seed: int) -> Iterator[tuple[str, str, str, str, str]]:
    """Give rows without end: quality, two numbers, two sentences."""
    draw = random.Random(seed)
    number = 100_000
    while True:
        number += 2
        same = draw.random() < 0.67  # MRPC's share of paraphrases
        first, second = _pair(draw, same)
        yield str(int(same)), str(number), str(number + 1), first, second


def _pair(draw: random.Random, same: bool) -> tuple[str, str]:
    subjects, up, down, phrasings = draw.choice(KINDS)
    facts = {
        "who": draw.choice(subjects),
        "n": draw.randint(2, 40),
        "day": draw.choice(DAYS),
        "city": draw.choice(CITIES),
        "other": draw.choice(PEOPLE),
    }
    outcomes = [up, up] if draw.random() < UP else [down, down]
    changed = dict(facts)
    if not same and draw.random() < 0.85:
        outcomes[1] = down if outcomes[1] is up else up
    elif not same:
        changed["who"] = draw.choice([one for one in subjects if one != facts["who"]])
    one, two = draw.sample(phrasings, 2)
    return (
        one.format(did=draw.choice(outcomes[0]), **facts),
        two.format(did=draw.choice(outcomes[1]), **changed),
    )


if __name__ == "__main__":
    main()
