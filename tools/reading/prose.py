"""What the reading report says between its tables; braces are filled in by the report."""

HEAD = """By `python -m tools.measure_reader`: on the held-out fifth of the training pictures and on rendered plates,
with the node's own code ({counts}).
Plain: the crop that the node would cut. Worn: one look at it worn down as in training, every one of them. Truth of the
held-out plates is what two public machine readings agree on; about one in a hundred is wrong, and O and 0 are not kept
apart everywhere. Weights: {weights}."""

CALIBRATION = """A character's confidence is the reader's probability; a plate's is that of its least sure character
(`PlateReading.confidence`, `Vote.confidence`), which is no estimate of the whole plate being right: the product over
the characters is one. Expected calibration error: the gaps between the bins' mean confidence and share right, weighted
by count. The reader's temperature was fitted on the same held-out plates."""

RISK = """Of {us}: share accepted, and in brackets the share wrong among the accepted, by the bar on the plate's
confidence. Single looks are as the reader says; passages are voted and confirmed as in the pipeline (readings from
{least}, two that agree or one from {sole}), before the grammar. Worn apart: each look is worn by itself, so that
mistakes hardly repeat; worn alike: all looks are worn the same and framed anew, so that they do. A drive lies between.
The confidence of a passage of one look cannot exceed {most:.3f}: the vote gives every other character its floor."""

BAR = """**The bar**: the least one at which at most {risk:.0%} of the accepted texts are wrong.
For a still (as many plain looks as worn ones; in use: {used}): {still}.
For a passage of two looks or more (as many worn apart as alike): {passage}. Some of the wrong are wrong labels."""

RULES = "What a bar on a passage may look at, and what the least good enough bar leaves:"
EXPONENTS = (
    "The vote's least character, were n readings counted as n ** k independent ones (`voting.INDEPENDENCE`, {k}):"
)
PAIRS = "How often a character was read as another, of how many there were (aligned with the fewest mistakes)."

ALTERNATIVES = """The ambiguity set is what a passage publishes beside its text; single looks are those that would be a
still's passage. It helps where a wrong text's set holds the truth, and costs where a right text has one."""

JURISDICTIONS = """At the manifest's threshold. Recall: share of a state's plates that are named so; precision: share of
the plates named so that are. Californian plates are rendered ones, of all designs alike; foreign ones are held-out
plates of sources without US plates; of rendered plates of made-up states no name is right. Real Californian crops are
of the evaluation sets: they are counted here to report, and nothing may be chosen by them."""
STATES = "Recall and precision by state, plain / worn:"

DESIGNS = """{count} rendered plates of each, with 95 % Wilson intervals. Clean ones have the dirt, frames, stickers and
embossing that the renderer draws; in some faces O and 0, or I and 1, are one shape."""

GATE = """Rendered drives at {speeds} km/h and {rate} frames a second, with {idle:g} s before and after, past the
pipeline with the gate and with one that is always open. Cars: those whose plate was legible in two frames or more.
Saved: of the time a frame takes, the gate's own cost counted."""
CLIPS = "Real clips, only reported; cars are labelled passages, with O as 0 and I as 1:"
