"""Correct predictions in the real Label Studio: import, predict, look, correct, export, train; all on loopback.

    python tools/label_studio_check.py LABEL_STUDIO MODEL

LABEL_STUDIO is the program `label-studio` in an environment of its own, MODEL a trained model directory. What is
compared is what a browser shows, what Label Studio stores, and what the server finds.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from playwright.sync_api import Page, sync_playwright

from cardioner import read_corpus

CORPUS = Path("examples/corpus")
PREFIX = "\U0001fac0 e\u0301\u0327 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f48a\r\n\r\n"
"""What stands before every note: emoji, marks that combine, Windows line ends."""
SUFFIX = "\n\U0001f600 Zebra"
"""What stands behind it: the last word is what the person marks."""
TASKS = 80
"""More than a request to the server may have texts, and Label Studio sends all at once."""
EMAIL, PASSWORD = "annotator@example.org", secrets.token_urlsafe(12)
LEGACY_TOKEN = secrets.token_hex(20)
SECONDS = 180


def main() -> None:
    """Check everything, and end with an error at the first thing that is wrong."""
    label_studio, model = Path(sys.argv[1]).absolute(), Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        token = secrets.token_urlsafe(24)
        (folder / "token").write_text(token)
        ours, theirs = free_port(), free_port()
        serve = (sys.executable, "-m", "cardioner", "serve", str(model), "--port", str(ours))
        with (
            running([*serve, "--token-file", str(folder / "token")], f"http://127.0.0.1:{ours}/ready", {}),
            running(start(label_studio, theirs), f"http://127.0.0.1:{theirs}/health", settings(folder)),
        ):
            headers = {"Authorization": f"Token {LEGACY_TOKEN}"}
            api = httpx2.Client(base_url=f"http://127.0.0.1:{theirs}/api", headers=headers, timeout=SECONDS)
            server = httpx2.Client(base_url=f"http://127.0.0.1:{ours}", timeout=SECONDS)
            server.headers["Authorization"] = f"Bearer {token}"
            from_backend(api, server, token, folder)
            from_file(api, model, folder)
    print("Label Studio shows, stores and exports every span at its characters")


def from_backend(api: httpx2.Client, server: httpx2.Client, token: str, folder: Path) -> None:
    """Predictions that Label Studio asks the server for; one of them corrected, exported and learned from."""
    (model,) = asked(server.get("/models"))
    project = asked(api.post("/projects/", json={"title": "backend", "label_config": interface(model["types"])}))["id"]
    notes = [PREFIX + document.text + SUFFIX for document in read_corpus(CORPUS / "test")]
    texts = [f"{notes[number % len(notes)]}" for number in range(TASKS)]
    tasks = [{"data": {"report": text, "id": f"note {number}"}} for number, text in enumerate(texts)]
    asked(api.post(f"/projects/{project}/import", json=tasks))
    backend = {"project": project, "url": str(server.base_url).rstrip("/") + "/label-studio", "title": "cardioner"}
    login = {"auth_method": "BASIC_AUTH", "basic_auth_user": "any", "basic_auth_pass": token}
    asked(api.post("/ml", json=backend | login))
    action = {"id": "retrieve_tasks_predictions", "project": project}
    asked(api.post("/dm/actions", params=action, json={"selectedItems": {"all": True, "excluded": []}}))
    stored = stored_tasks(api, project)
    assert len(stored) == TASKS
    found = asked(server.post("/predict", json={"text": notes}))["results"]
    for task in stored:
        text, (prediction,) = task["data"]["report"], task["predictions"]
        expected = found[notes.index(text)]["spans"]
        regions = [
            (one["value"]["start"], one["value"]["end"], *one["value"]["labels"]) for one in prediction["result"]
        ]
        assert regions == [(span["start"], span["end"], span["label"]) for span in expected], (regions, expected)
        scores = [(one["score"], span["score"]) for one, span in zip(prediction["result"], expected, strict=True)]
        assert all(abs(one - other) < 0.01 for one, other in scores), scores  # other notes were in the batch
    print(f"{TASKS} tasks have the spans that the server finds")
    task = next(one for one in stored if len(one["predictions"][0]["result"]) > 1)
    with browser(api) as page:
        correct(page, project, task)
    exported = asked(api.get(f"/projects/{project}/export", params={"exportType": "JSON"}))
    (folder / "export.json").write_text(json.dumps(exported))
    learn(folder / "export.json", task, folder)


def from_file(api: httpx2.Client, model: Path, folder: Path) -> None:
    """Predictions of `cardioner predict --to label-studio`, with the interface that it shows."""
    (folder / "notes").mkdir()
    for document in list(read_corpus(CORPUS / "test"))[:3]:
        (folder / "notes" / f"{document.id}.txt").write_bytes((PREFIX + document.text).encode())
    output = folder / "tasks.json"
    done = cardioner("predict", model, folder / "notes", "--output", output, "--to", "label-studio")
    config = (
        " ".join(done.split()).partition("Labeling interface for the project: ")[2].partition("</View>")[0] + "</View>"
    )
    project = asked(api.post("/projects/", json={"title": "from a file", "label_config": config}))["id"]
    asked(api.post(f"/projects/{project}/import", json=json.loads(output.read_text())))
    with browser(api) as page:
        for task in stored_tasks(api, project):
            assert shown(page, project, task) == quoted(task), "what is shown"
    print("What predict writes is shown as it was written")


# In the browser ------------------------------------------------------------------------------------------------------


@contextmanager
def browser(api: httpx2.Client) -> Iterator[Page]:
    """A person who is logged in."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = started.new_page(base_url=str(api.base_url).replace("/api", ""), viewport={"width": 1400, "height": 900})
        page.goto("/user/login/")
        page.fill("input[name=email]", EMAIL)
        page.fill("input[name=password]", PASSWORD)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "login" not in url)
        yield page
        started.close()


def quoted(task: dict[str, Any]) -> list[str]:
    """What the regions of a task's prediction read, without white space."""
    results = task["predictions"][0]["result"]
    return ["".join(one["value"]["text"].split()) for one in sorted(results, key=lambda one: one["value"]["start"])]


def shown(page: Page, project: int, task: dict[str, Any]) -> list[str]:
    """What the editor highlights in a task, without white space."""
    page.goto(f"/projects/{project}/data?task={task['id']}")
    page.wait_for_function(
        "count => window.Htx?.annotationStore?.selected?.regions.length === count",
        arg=len(task["predictions"][0]["result"]),
    )
    if not task["predictions"][0]["result"]:
        return []
    page.wait_for_selector(".htx-highlight")
    texts = page.evaluate(
        """() => window.Htx.annotationStore.selected.regions
            .toSorted((one, other) => one.globalOffsets.start - other.globalOffsets.start)
            .map(region => region._spans.map(span => span.textContent).join(''))"""
    )
    return ["".join(text.split()) for text in texts]


def correct(page: Page, project: int, task: dict[str, Any]) -> None:
    """Look at the predictions of a task, delete the first, mark the last word as the first label, and submit."""
    assert shown(page, project, task) == quoted(task), "what is shown"
    print("The browser shows the predictions at their characters")
    page.locator(".htx-highlight").first.click()
    page.keyboard.press("Backspace")
    page.keyboard.press("1")
    left, right, middle = page.evaluate(
        """word => {
            const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            let found;
            while (texts.nextNode()) if (texts.currentNode.data.endsWith(word)) found = texts.currentNode;
            found.parentElement.scrollIntoView({block: 'center'});
            const range = document.createRange();
            range.setStart(found, found.length - word.length);
            range.setEnd(found, found.length);
            const box = range.getBoundingClientRect();
            return [box.left, box.right, (box.top + box.bottom) / 2];
        }""",
        "Zebra",
    )
    page.mouse.move(left + 1, middle)
    page.mouse.down()
    page.mouse.move((left + right) / 2, middle)
    page.mouse.move(right, middle, steps=4)
    page.mouse.up()
    page.wait_for_timeout(500)
    with page.expect_response(lambda answer: "/annotations" in answer.url and answer.request.method == "POST"):
        page.get_by_role("button", name="Submit").first.click()


def learn(export: Path, task: dict[str, Any], folder: Path) -> None:
    """Read what was exported, and train on it."""
    cardioner("check", export)
    (document,) = read_corpus(export, require_annotations=True)
    text = task["data"]["report"]
    before = sorted((one["value"]["start"], one["value"]["end"]) for one in task["predictions"][0]["result"])
    assert document.text == text
    assert document.id == task["data"]["id"]
    spans = sorted((span.start, span.end) for span in document.spans)
    assert spans == [*before[1:], (len(text) - len("Zebra"), len(text))], (before, spans)
    print("The export has the correction, and else the spans that were predicted")
    options = ("--epochs", "1", "--layers", "1", "--batch-size", "8", "--output", folder / "corrected")
    cardioner("train", "--train", CORPUS / "train", "--train", export, "--eval", CORPUS / "validation", *options)
    print("A model was trained on the export")


# Projects and tasks --------------------------------------------------------------------------------------------------


def interface(labels: dict[str, Any]) -> str:
    """A labeling interface with other names than ours."""
    shown = "".join(f'<Label value="{label.lower()}" alias="{label}"/>' for label in sorted(labels))
    return f'<View><Labels name="ner" toName="note">{shown}</Labels><Text name="note" value="$report"/></View>'


def stored_tasks(api: httpx2.Client, project: int) -> list[dict[str, Any]]:
    """All tasks of a project, with their predictions."""
    found = asked(api.get("/tasks/", params={"project": project, "fields": "all", "page_size": 1000}))
    return list(found["tasks"])


def asked(answer: httpx2.Response) -> Any:
    """What was answered, if nothing was wrong."""
    assert answer.is_success, (
        f"{answer.request.method} {answer.request.url}: {answer.status_code}: {answer.text[:2000]}"
    )
    return answer.json()


# Processes -----------------------------------------------------------------------------------------------------------


def start(program: Path, port: int) -> list[str]:
    """The command that starts Label Studio with one user."""
    user = ["--username", EMAIL, "--password", PASSWORD, "--user-token", LEGACY_TOKEN, "--enable-legacy-api-token"]
    return [str(program), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port), *user]


def settings(folder: Path) -> dict[str, str]:
    """The environment of Label Studio: its data in a folder, no request to others, backends of this machine."""
    off = ("COLLECT_ANALYTICS", "LATEST_VERSION_CHECK", "ML_BLOCK_LOCAL_IP", "SSRF_PROTECTION_ENABLED", "DEBUG")
    return {
        **dict.fromkeys(off, "False"),
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "label-studio"),
        "HOME": str(folder),
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }


@contextmanager
def running(command: list[str], address: str, environment: dict[str, str]) -> Iterator[None]:
    """A process that answers at an address; it is ended in the end."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            for _ in range(SECONDS):
                time.sleep(1)
                try:
                    if httpx2.get(address).is_success:
                        break
                except httpx2.TransportError:
                    assert process.poll() is None, log_of(log)
            else:
                raise AssertionError(log_of(log))
            yield
        finally:
            process.terminate()
            process.wait(SECONDS)


def log_of(log: Any) -> str:
    """The end of what a process said."""
    log.seek(0)
    return str(log.read()[-3000:].decode(errors="replace"))


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def cardioner(*arguments: object) -> str:
    """What a command shows on standard error."""
    command = [sys.executable, "-m", "cardioner", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


if __name__ == "__main__":
    main()
