"""A small grammar of English sentences for the synthetic corpus.

Eight sentence patterns over word lists yield many millions of distinct, pronounceable sentences of 8 to 16 words (about
two to five seconds of speech). They carry no meaning; they cover the phonemes of English and never repeat within a
corpus, so that no text of a test set is seen in training.

    sentences = draw_sentences(100, seed=0)
"""

import random

_WORD_LISTS = {
    "adjective": (
        "old, quiet, golden, narrow, bright, hungry, gentle, curious, broken, heavy, shy, purple, frozen, clever, "
        "dusty, enormous, velvet, lonely, cheerful, rusty, thin, young, proud, yellow, wooden, huge, polite, sour, "
        "faithful, mighty, pale, odd"
    ),
    "person": (
        "captain, baker, teacher, gardener, judge, sailor, painter, shepherd, doctor, widow, neighbour, poet, "
        "engineer, thief, queen, cousin, farmer, miner, singer, stranger, merchant, nurse, fisherman, clockmaker, "
        "pilot, joiner, chemist, guide, youth, weaver"
    ),
    "name": (
        "Martha, Oliver, Beatrice, Hugo, Josephine, Victor, Eleanor, George, Phoebe, Arthur, Yvonne, Theodore, "
        "Charlotte, Winston, Zoe, Frederick, Isabel, Kenneth, Judith, Matthew"
    ),
    "thing": (
        "lantern, basket, letter, mirror, violin, blanket, bottle, ladder, wagon, kettle, umbrella, parcel, anchor, "
        "pillow, hammer, jacket, teapot, candle, compass, feather, photograph, drum, bicycle, necklace, shovel, "
        "telescope, cushion, whistle, barrel, quilt"
    ),
    "animal": (
        "fox, donkey, sparrow, hedgehog, goose, tiger, beaver, rabbit, owl, zebra, horse, turtle, spider, monkey, "
        "weasel, dolphin, peacock, mule, lizard, moth"
    ),
    "place": (
        "harbour, orchard, village, bridge, valley, market, library, island, castle, meadow, station, kitchen, "
        "forest, chapel, garden, cellar, desert, theatre, lighthouse, courtyard, beach, attic, mountain, quarry, "
        "river, highway, workshop, museum"
    ),
    "did": (
        "carried, found, sold, painted, borrowed, polished, hid, repaired, dropped, measured, wrapped, noticed, "
        "chose, pushed, watched, fetched, stole, counted, washed, described, followed, lifted, judged, examined, "
        "showed"
    ),
    "went": (
        "walked, hurried, travelled, wandered, returned, marched, sailed, galloped, crept, rode, climbed, drifted, "
        "rushed, moved, strolled"
    ),
    "how": (
        "slowly, without a word, with great care, in a hurry, quite by chance, very gently, as usual, in silence, "
        "rather badly, with both hands, for no reason, at once, like a thief, with a smile, once again"
    ),
    "when": (
        "before breakfast, on Thursday, at midnight, during the storm, last winter, every evening, after the concert, "
        "in early spring, two days later, on a foggy morning, at half past eight, since the war, around noon, "
        "throughout July, when the bells rang"
    ),
    "number": (
        "two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, fifteen, twenty, thirty, forty, sixty, "
        "a hundred, a thousand"
    ),
    "where": ("near, behind, beyond, above, across, inside, beside, past, through, along"),
    "said": ("said, thought, believed, heard, explained, knew, promised, wrote, feared, guessed"),
    "because": ("because, although, while, until, unless, so, and then, but"),
    "food": (
        "honey, cabbage, cheese, ginger, butter, pepper, fish, bread, plums, soup, garlic, porridge, sugar, lemons, "
        "mushrooms, oysters"
    ),
}
WORDS = {slot: tuple(words.split(", ")) for slot, words in _WORD_LISTS.items()}

PATTERNS: tuple[str, ...] = (
    "the {adjective} {person} {did} {number} {adjective} {thing}s {where} the {place}",
    "{when} the {person} {went} {where} the {adjective} {place} {how}",
    "{name} {said} that the {adjective} {animal} {went} {where} the {place} {when}",
    "{name} and {name} {did} the {adjective} {thing} {because} the {person} {went} {where} the {place}",
    "we {did} {number} pounds of {food} for the {adjective} {person} {where} the {place}",
    "nobody {said} why the {animal} {did} the {person}'s {thing} {how} {when}",
    "there was a {adjective} {thing} {where} the {place}, {because} {name} {did} the {food} {how}",
    "{how} the {adjective} {animal} {went} {where} the {thing} and {did} the {food}",
)


def draw_sentences(count: int, seed: int) -> list[str]:
    """Return ``count`` different sentences; the same ``seed`` gives the same ones, a larger ``count`` only appends."""
    generator = random.Random(f"sentences {seed}")
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault(_draw_sentence(generator))
    return list(found)


def _draw_sentence(generator: random.Random) -> str:
    words = generator.choice(PATTERNS).split("{")
    pieces = [words[0]]
    for word in words[1:]:
        slot, rest = word.split("}", 1)
        pieces.append(generator.choice(WORDS[slot]) + rest)
    sentence = "".join(pieces)
    return sentence[0].upper() + sentence[1:] + "."
