"""What every process of the mill that counts words needs: loaded by the one that the others are forked from, it takes
its two seconds and its memory once. English's rules come along, a quarter of a second in each process else: most
corpora ask for them."""

import gc

from polyana.corpus.word_rules import rules_of

rules_of("en")  # and with it what any language needs: the classes of all characters, the compiler
gc.collect()
gc.freeze()  # or each process would look through all that it inherits, and so copy its pages
