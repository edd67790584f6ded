"""From a spec to rows."""

from app.jobs.planning import file_ids_in, model_ids_in, plan_job
from fusion.plan import plan_steps
from fusion.spec import FusionSpec
from tests.app.jobs.builders import spec_data


def test_rows_follow_the_engines_plan() -> None:
    spec = FusionSpec.model_validate(spec_data())

    planned = plan_job(spec, project_id="proj-1", created_by=None)

    names = {step.id: step.name for step in planned.steps}
    needs = {(names[need.step_id], names[need.needed_step_id]) for need in planned.needs}
    assert [step.name for step in planned.steps] == [step.name for step in plan_steps(spec)]
    assert needs == {(step.name, needed) for step in plan_steps(spec) for needed in step.needs}
    assert {step.project_id for step in planned.steps} == {"proj-1"}


def test_the_stored_spec_is_explicit_and_means_the_same() -> None:
    spec = FusionSpec.model_validate(spec_data(strategy={"preset": "paper"}))

    stored = plan_job(spec, project_id="proj-1", created_by=None).job.spec

    assert stored["strategy"]["extraction"]["top_k"] == 10
    assert FusionSpec.model_validate(stored) == spec


def test_files_and_models_that_a_spec_names() -> None:
    spec = FusionSpec.model_validate(
        spec_data(
            corpus={"files": [{"file_id": "file-a"}, {"path": "/x.txt"}]},
            target={"model": {"model_id": "model-b"}},
        )
    ).model_dump(mode="json")

    assert file_ids_in(spec) == ["file-a"]
    assert model_ids_in(spec) == ["model-b"]
