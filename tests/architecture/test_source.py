"""What the source itself must keep to."""

import ast
from collections.abc import Iterator
from pathlib import Path

from app.db import models
from app.db.tenancy import OfProject

ROOT = Path(__file__).parents[2]
SEES_EVERY_PROJECT = {
    "app/accounts/dependencies.py",
    "app/cli/serving.py",
    "app/db/dependencies.py",
    "app/main.py",
    # How long the queues are is a matter of all projects; what names things of another one is left out.
    "app/operations/fleet_endpoints.py",
    # Counts of all projects without a name of any, for operators.
    "app/operations/metrics_endpoint.py",
    "app/operations/open_endpoints.py",
}
"""Who may touch the engine that was bound to no project. No other route that has a caller is among them."""
COMMITTING = {"commit", "begin"}
RUNS_WHAT_IT_READS = {
    "pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torch.load", "numpy.load",
    "np.load", "pd.read_pickle", "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "eval",
    "exec", "os.system",
}  # fmt: skip
"""Modules and functions that can run a program which lies in the data they are given."""
OPENS_A_DOOR = {("trust_remote_code", True), ("allow_pickle", True), ("weights_only", False), ("shell", True)}


def sources(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def test_only_the_session_module_commits() -> None:
    """`x.commit()` and `x.begin()` end in a commit; services are handed a session and never end it."""
    committing = {
        path
        for path, tree in sources("app", "workers")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in COMMITTING
        and not node.args
    }

    assert committing == {"app/db/session.py"}


def test_only_the_repositories_of_jobs_write_a_steps_status() -> None:
    """A status moves through a guarded UPDATE, so nothing assigns to it."""
    assigning = {
        f"{path}:{node.lineno}"
        for path, tree in sources("app/jobs", "workers")
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Attribute) and target.attr == "status"
    }

    assert assigning == set()


def test_every_table_of_a_tenant_carries_its_project() -> None:
    shared = {"projects", "workers", "outbox_messages", "step_needs"}
    without = {
        name for name, table in models.Job.metadata.tables.items() if "project_id" not in table.columns
    }

    assert without == shared


def test_every_table_of_a_tenant_is_behind_the_wall() -> None:
    """A table with `project_id` that is no `OfProject` would be read without its filter."""
    for mapper in models.Job.registry.mappers:
        has_project = "project_id" in mapper.columns
        assert has_project is issubclass(mapper.class_, OfProject), (
            f"{mapper.class_.__name__}(OfProject, Base)"
        )


def test_requests_reach_the_database_as_their_project() -> None:
    """Endpoints take `ReadSession`, `WriteSession` or `engine_of`: these know the caller's project."""
    unbound = {
        path
        for path, tree in sources("app")
        for node in ast.walk(tree)
        if (isinstance(node, ast.Name) and node.id == "service_engine_of")
        or (isinstance(node, ast.Attribute) and ast.unparse(node).endswith("state.engine"))
    }

    assert unbound == SEES_EVERY_PROJECT


def test_there_is_one_table_per_file() -> None:
    per_file = {
        path: sum(isinstance(node, ast.ClassDef) for node in tree.body)
        for path, tree in sources("app/db/models")
        if not path.endswith("__init__.py")
    }

    assert set(per_file.values()) == {1}


def test_connections_without_a_session_read_no_tables_of_tenants() -> None:
    """A bare connection does not say whose it is, so row-level security shows it no rows, without a word."""
    bare = {
        path
        for path, tree in sources("app", "workers")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "connect"
        and not node.args
    }

    # The version of the server, and that of the schema.
    assert bare == {"app/db/migrate.py", "app/operations/doctor/database.py"}


def test_nothing_runs_what_it_reads() -> None:
    used = {
        f"{path}: {name}"
        for path, tree in sources("app", "workers", "fusion")
        for node in ast.walk(tree)
        for name in names_used(node)
        if name in RUNS_WHAT_IT_READS
    }
    opened = {
        f"{path}:{node.lineno}"
        for path, tree in sources("app", "workers", "fusion")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if isinstance(keyword.value, ast.Constant) and (keyword.arg, keyword.value.value) in OPENS_A_DOOR
    }

    # With a loader of its own, a child of the safe one.
    assert used == {"fusion/plain_data.py: yaml.load"}
    assert opened == set()


def names_used(node: ast.AST) -> list[str]:
    """Modules that are imported, and functions that are called."""
    match node:
        case ast.Import(names=names):
            return [alias.name.partition(".")[0] for alias in names]
        case ast.ImportFrom(module=str(module), names=names):
            return [module.partition(".")[0], *(f"{module}.{alias.name}" for alias in names)]
        case ast.Call(func=function):
            return [ast.unparse(function)]
    return []
