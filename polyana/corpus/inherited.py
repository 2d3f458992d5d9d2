"""What every process of the mill that counts words needs: loaded by the one that the others are forked from, it takes
its two seconds and its memory once."""

from polyana.corpus.words import warm_up

warm_up()
