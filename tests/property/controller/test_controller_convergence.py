"""Random edits, deletions, answers and restarts: the controller comes to rest where the pure planners say."""

from hypothesis import settings
from hypothesis.stateful import invariant

from tests.property.controller.edits import Edits


class OneByOne(Edits):
    """After each there is rest: what was looked at because it was dirty is what a look at everything finds."""

    @invariant()
    def all_is_well_at_rest(self) -> None:
        self.check()


OneByOne.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestOneByOne = OneByOne.TestCase
