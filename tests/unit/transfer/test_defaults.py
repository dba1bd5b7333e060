from agent.node.settings import AgentSettings
from agent.node.tuning import budget_of, limits_of
from agent.transfer import silence
from shared.ops.settings import load


def test_what_holds_where_nobody_has_set_anything() -> None:
    settings = load(AgentSettings, file=None, environment={})
    assert limits_of(settings, budget_of(settings)).min_free_percent == 5
    assert settings.scrub_days == 14
    assert silence.SILENCE_SECONDS == 30
