"""Code from a model's repository: never run unasked, and run by transformers' own loader when allowed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lora_probe.errors import BuildError, UnknownArchitecture
from lora_probe.source import locate
from lora_probe.source.build import build
from tests.hub_server import COMMIT, Hub, Repository

if TYPE_CHECKING:
    from pathlib import Path

CONFIGURATION = """
from transformers import PreTrainedConfig

class OwnConfig(PreTrainedConfig):
    model_type = "own"

    def __init__(self, width=4, depth=2, **kwargs):
        self.width, self.depth = width, depth
        super().__init__(**kwargs)
"""
MODELING = """
import sys
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from .configuration_own import OwnConfig

Path(__file__).with_suffix(".ran").touch()
print("chatter on stdout")
print("chatter on stderr", file=sys.stderr)

class OwnModel(PreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        print("more chatter")
        self.layers = nn.ModuleList([nn.Linear(config.width, config.width) for _ in range(config.depth)])
        self.post_init()

class OwnForCausalLM(OwnModel):
    def __init__(self, config):
        super().__init__(config)
        self.head = nn.Linear(config.width, 10)
        {extra}
"""
CONFIG: dict[str, Any] = {
    "model_type": "own",
    "architectures": ["OwnForCausalLM"],
    "width": 8,
    "auto_map": {
        "AutoConfig": "configuration_own.OwnConfig",
        "AutoModel": "modeling_own.OwnModel",
        "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
    },
}


def files(config: dict[str, Any] = CONFIG, *, extra: str = "") -> dict[str, str]:
    """Return the files of a repository with code of its own."""
    modeling = MODELING.replace("{extra}", extra)
    return {
        "config.json": json.dumps(config),
        "configuration_own.py": CONFIGURATION,
        "modeling_own.py": modeling,
    }


def write(folder: Path, content: dict[str, str]) -> Path:
    """Write files into a new folder."""
    folder.mkdir()
    for name, text in content.items():
        folder.joinpath(name).write_text(text)
    return folder


@pytest.fixture(autouse=True)
def own_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let transformers copy the code into a folder of the test's own."""
    modules = tmp_path / "modules"
    modules.mkdir()
    monkeypatch.setattr("transformers.utils.hub.HF_MODULES_CACHE", str(modules))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(modules))
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        monkeypatch.delitem(sys.modules, name)
    return modules


def ran(folder: Path) -> bool:
    """Return whether a copy of the modeling code was executed."""
    return any(folder.rglob("*.ran"))


def test_code_is_not_run_unasked(tmp_path: Path, own_modules: Path) -> None:
    """Without the flag the code is neither copied nor run, and the sentence names the flag."""
    located = locate(write(tmp_path / "model", files()))
    with pytest.raises(UnknownArchitecture, match="--trust-remote-code"):
        build(located)
    assert not any(own_modules.iterdir())


def test_code_is_run_on_request_and_silently(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With the flag the class that the config names is built, and what the code prints is dropped."""
    located = locate(write(tmp_path / "model", files()))
    built = build(located, trust_remote_code=True)
    assert built.architecture == "OwnForCausalLM"
    assert sum(parameter.numel() for parameter in built.module.parameters()) == 2 * (8 * 8 + 8) + 8 * 10 + 10
    assert {parameter.device.type for parameter in built.module.parameters()} == {"meta"}
    assert ran(tmp_path / "modules")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("architectures", "auto_map", "built"),
    [
        (["OwnModel"], CONFIG["auto_map"], "OwnModel"),
        (None, CONFIG["auto_map"], "OwnForCausalLM"),
        (
            ["Other"],
            {"AutoConfig": "configuration_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"},
            "OwnModel",
        ),
        (["OwnModel"], {"AutoModel": "modeling_own.OwnModel"}, "OwnModel"),
    ],
)
def test_the_class_is_the_one_that_the_config_means(
    tmp_path: Path, architectures: list[str] | None, auto_map: dict[str, str], built: str
) -> None:
    """The named architecture comes first, then the causal language model, then the base."""
    config = {**CONFIG, "architectures": architectures, "auto_map": auto_map}
    located = locate(write(tmp_path / "model", files(config)))
    assert build(located, trust_remote_code=True).architecture == built


def test_a_known_type_is_not_replaced_unasked(tmp_path: Path) -> None:
    """A llama with its own code is built as transformers' llama, with a note, unless the code is allowed."""
    config = {**CONFIG, "model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1}
    located = locate(write(tmp_path / "model", files(config)))
    built = build(located)
    assert built.architecture == "LlamaForCausalLM"
    assert [note.code for note in built.notes] == ["remote-code-refused"]
    assert build(located, trust_remote_code=True).architecture == "OwnForCausalLM"


def test_the_flag_changes_nothing_for_a_model_without_code(tmp_path: Path) -> None:
    """Allowing code that is not there builds transformers' class."""
    config = {"model_type": "gpt2", "n_layer": 1}
    located = locate(write(tmp_path / "model", files(config)))
    assert build(located, trust_remote_code=True).architecture == "GPT2LMHeadModel"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (files(extra="1 / 0"), "OwnForCausalLM cannot be built from this config .ZeroDivisionError"),
        (
            files(extra="import nosuchlibrary"),
            "requires the following packages.*nosuchlibrary.*install that library",
        ),
        ({**files(), "modeling_own.py": "def"}, "the own code of .* cannot be built .*SyntaxError"),
        ({**files(), "modeling_own.py": "import torch"}, "AttributeError: module .* has no attribute"),
        ({"config.json": json.dumps(CONFIG)}, "the own code of .* cannot be built .*OSError"),
        (files({**CONFIG, "auto_map": {"AutoModel": "nodot"}}), "the own code of .* cannot be built"),
        (files(extra="import pickle, torch; torch.load('x')"), "lora-probe loads no pickle"),
    ],
)
def test_broken_code_is_one_sentence(tmp_path: Path, content: dict[str, str], words: str) -> None:
    """Whatever such code raises, while it is loaded or runs, is reported like a config that does not fit."""
    located = locate(write(tmp_path / "model", content))
    with pytest.raises(BuildError, match=words):
        build(located, trust_remote_code=True)


def test_a_lone_dict_has_no_code_to_load() -> None:
    """A config that was passed as a dict is built without its code, whatever the flag says."""
    with pytest.raises(UnknownArchitecture, match="no model type 'own'"):
        build(CONFIG, trust_remote_code=True)


def test_code_on_the_hub_comes_at_the_located_revision(tmp_path: Path) -> None:
    """The code is fetched from the repository of the config, at its commit, by the real client."""
    code = (
        "from lora_probe.source import locate\n"
        "from lora_probe.source.build import build\n"
        "print(build(locate('owner/own'), trust_remote_code=True).architecture)\n"
    )
    served = {name: text.encode() for name, text in files().items()}
    with Hub() as hub:
        hub.repositories["owner/own"] = Repository(files=served)
        # A process of its own: transformers reads the hub's address once, when it is imported.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        environment |= {
            "HF_ENDPOINT": hub.address,
            "NO_PROXY": "*",
            "TRANSFORMERS_OFFLINE": "0",
            "HF_HOME": str(tmp_path / "home"),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
    assert (done.stdout, done.stderr, done.returncode) == ("OwnForCausalLM\n", "", 0)
    fetched = [request.path for request in hub.requests if request.path.endswith(".py")]
    assert f"/owner/own/resolve/{COMMIT}/modeling_own.py" in fetched
