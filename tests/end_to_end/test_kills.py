"""kill -9 at random instants: nothing missing, nothing twice, nothing different, nobody's help (L2).

``HAUL_KILLS`` says how many kills have to fall inside an import (default 4; a release is tried with 100), ``HAUL_SEED`` repeats
a run.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from pathlib import Path

from support.daemon import Hauld
from support.dovecot import Dovecot, User
from support.messages import messages

KILLS = int(os.environ.get("HAUL_KILLS", "4"))
MESSAGES = int(os.environ.get("HAUL_KILL_MESSAGES", "4000"))


def test_L2_an_import_killed_at_random_instants_is_complete_and_exact(
    tmp_path: Path, dovecot: Dovecot, mail_user: User
) -> None:
    seed = int(os.environ.get("HAUL_SEED", random.randrange(10**9)))
    print(f"HAUL_SEED={seed}")  # noqa: T201 - what repeats this run
    dice = random.Random(seed)
    dovecot.fill(mail_user, "INBOX", messages(MESSAGES * 3 // 4, size=3000))
    dovecot.fill(mail_user, "Projects/a b", messages(MESSAGES // 4, size=3000, seed=2))
    truth = {folder: kept for folder, kept in dovecot.read_all(mail_user).items() if kept}
    account = dovecot.account(mail_user)
    kills = imports = 0
    while kills < KILLS:
        directory = tmp_path / f"import-{imports}"
        hauld = Hauld(directory, {"a": account})
        imports += 1
        hauld.start()
        job = hauld.call("jobs.create", account="a", live=False)["id"]
        while True:
            # the instant is the experiment: anywhere from the first listing to the last commit
            time.sleep(dice.uniform(0.0, 2.0))
            if hauld.call("jobs.get", job=job)["status"] == "completed":
                break
            hauld.kill()
            kills += 1
            hauld.start()
        progress = json.loads(hauld.haulctl("show", job, "--json").stdout)["progress"]
        assert (progress["total_items"], progress["remaining_items"], progress["failed_items"]) == (MESSAGES, 0, 0)
        assert progress["downloaded_items"] == MESSAGES
        assert {folder: kept for folder, kept in hauld.stored("a").items() if kept} == truth
        assert len(hauld.files()) == MESSAGES
        assert not list((hauld.mail / ".haul" / "stage").iterdir()), "the stage is empty when nothing is under way"
        assert hauld.stop() == 0
        shutil.rmtree(directory)
    print(f"{kills} kills in {imports} imports of {MESSAGES} messages")  # noqa: T201 - the figure this test is run for
