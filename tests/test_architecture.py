"""The structure of the package: layers, owners of heavy packages, sizes, docstrings."""

import ast
import socket
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "b2v"
LAYERS = (
    {"errors", "color", "defaults"},
    {"frames", "metrics", "files"},
    {"motion", "media", "models"},
    {"weights", "data"},
    {"inference"},
    {"evaluate", "training", "report", "html_page", "bench"},
    {"cli", ""},
)
"""From the bottom to the top; a folder is one unit, "" the package's own page."""
OWNERS = {
    "PIL": "media",
    "pillow_heif": "media",
    "tifffile": "media",
    "av": "media",
    "cv2": "media models",
    "imageio": "media",
    "imageio_ffmpeg": "media",
    "huggingface_hub": "weights",
    "safetensors": "weights",
    "matplotlib": "report",
    "typer": "cli",
    "rich": "cli",
}
LONGEST_FILE, LONGEST_FUNCTION = 600, 60


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {module: ast.parse(path.read_text()) for module, path in MODULES.items()}


def imports_of(module: str) -> set[str]:
    """All that `module` imports, wherever in the file, as full names of modules."""
    found = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by relative name"
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                is_module = longer in MODULES or longer == "b2v.__version__"
                found.add(longer if is_module else str(node.module))
    return found - {"b2v.__version__"}


def part_of(module: str) -> str:
    """Name of the part of the package, a file or a folder of it; "" for the package itself."""
    return module.split(".")[1] if module.startswith("b2v.") else ""


def layer_of(module: str) -> int:
    part = "" if module == "b2v.__main__" else part_of(module)
    return next(number for number, parts in enumerate(LAYERS) if part in parts)


def test_no_module_imports_from_a_higher_layer():
    upward = [
        f"{module} imports {imported}"
        for module in MODULES
        for imported in sorted(imports_of(module))
        if imported.split(".")[0] == "b2v" and layer_of(imported) > layer_of(module)
    ]
    assert upward == []


def test_modules_do_not_import_each_other_in_a_circle():
    graph = {module: {i for i in imports_of(module) if i in MODULES} for module in MODULES}
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("b2v.color") < order.index("b2v.training.losses") < order.index("b2v.cli")


def test_importing_is_seen_where_it_happens():
    assert "b2v.metrics" in imports_of("b2v.training.losses")
    assert "b2v.models.unet" in imports_of("b2v.models")
    assert any("b2v.training.loop" in imports_of(m) for m in MODULES if part_of(m) == "cli")


@pytest.mark.parametrize(("package", "owner"), OWNERS.items())
def test_a_heavy_package_has_one_user(package, owner):
    users = {
        part_of(module)
        for module in MODULES
        if any(imported.split(".")[0] == package for imported in imports_of(module))
    }
    assert users <= set(owner.split()), f"only b2v.{owner} may use {package}"


def test_files_and_functions_fit_on_a_few_pages():
    long = [m for m, p in MODULES.items() if len(p.read_text().splitlines()) > LONGEST_FILE]
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) and node.body[1:] else node.body
                length = node.end_lineno - body[0].lineno + 1  # options of a command are no code
                if length > LONGEST_FUNCTION:
                    long.append(f"{module}.{node.name} has {length} lines")
    assert long == []


def public_things(body: list[ast.stmt], prefix: str) -> list[tuple[str, ast.AST]]:
    """Public functions and classes, and the public methods of the latter."""
    found = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            found.append((f"{prefix}.{node.name}", node))
            if isinstance(node, ast.ClassDef):
                found += public_things(node.body, f"{prefix}.{node.name}")
    return found


def test_all_that_is_public_is_described():
    things = [
        thing
        for module, tree in TREES.items()
        for thing in [(module, tree), *public_things(tree.body, module)]
    ]
    assert len(things) > 500
    assert [name for name, node in things if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.org", 80), ("2001:db8::1", 80)])
def test_tests_cannot_reach_the_network(address):
    with pytest.raises(pytest.fail.Exception, match="a test reached for the network"):
        socket.create_connection(address, timeout=0.1)
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with (
        socket.socket(family) as direct,
        pytest.raises(pytest.fail.Exception, match=address[0]),
    ):
        direct.connect(address)


def test_tests_can_talk_to_a_server_of_their_own():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(("localhost", server.getsockname()[1]), timeout=5) as client:
            client.sendall(b"hello")
            connection, _ = server.accept()
        with connection:
            assert connection.recv(5) == b"hello"
