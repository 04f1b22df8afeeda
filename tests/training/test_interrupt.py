"""Interrupts: the step is finished, the best weights are kept, and handlers are put back."""

import os
import signal
import threading

import pytest

from likely.training import Recipe, evaluate, fit
from training.runs import DIGITS, VALID, interrupt_at, make, recipe_for, same, weights


def test_an_interrupted_flow_holds_the_best_weights_so_far():
    whole, part = make(), make()
    recipe = recipe_for("float32")
    seen = []

    def report(progress):
        seen.append(progress)
        interrupt_at(12)(progress)

    result = fit(part, DIGITS.train, VALID, recipe, levels=17, report=report)
    assert result.stopped == "interrupted" and not part.training
    assert evaluate(part, VALID, levels=17)[0] == result.best == seen[-1].best
    assert not same(weights(part), weights(whole))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_handlers_are_put_back(number):
    before = signal.getsignal(number)

    def report(progress):
        assert signal.getsignal(number) is not before
        os.kill(os.getpid(), number)

    result = fit(make(), DIGITS.train, VALID, Recipe(steps=5, batch=8), levels=17, report=report)
    assert (result.stopped, result.step) == ("interrupted", 1)
    assert signal.getsignal(number) is before


def test_a_second_interrupt_stops_at_once():
    before = signal.getsignal(signal.SIGINT)

    def report(progress):
        interrupt_at(2)(progress)
        interrupt_at(2)(progress)

    with pytest.raises(KeyboardInterrupt):
        fit(make(), DIGITS.train, VALID, Recipe(steps=5, batch=8), levels=17, report=report)
    assert signal.getsignal(signal.SIGINT) is before


def test_it_runs_outside_the_main_thread():
    results = []

    def run():
        results.append(fit(make(), DIGITS.train, VALID, Recipe(steps=2, batch=8), levels=17))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert results[0].stopped == "finished"
