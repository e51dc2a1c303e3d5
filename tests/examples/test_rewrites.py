"""The examples that rewrite documented workflows of Tensorlake and AGNT5 for plait."""

import importlib.util
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from anyio.lowlevel import checkpoint

from plait import PermanentError, RouterPrimitive, UnknownRouteError, WorkflowContext
from plait.durable import DurableRunner, JournalError, SqliteJournal
from plait.primitives._errors import failed_path

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name):
    # Registered under its name, as a journal finds the classes of its values by their modules.
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


call_graphs = load("call_graphs")
crawl = load("crawl")
order_fulfilment = load("order_fulfilment")
fan_out = load("fan_out")
batches = load("batches")
onboarding = load("onboarding")
data_pipeline = load("data_pipeline")


@pytest.fixture
def journal(tmp_path):
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture(params=["alone", "durably"])
def run(request, journal):
    """Runs a workflow with no runner at all, or under one and then finds its result again."""

    async def alone(workflow, input_data):
        return await workflow(input_data)

    async def durably(workflow, input_data):
        async with DurableRunner(journal) as runner:
            result = await runner.run(workflow, input_data, run_id="run")
        async with DurableRunner(journal) as runner:
            again = await runner.start(workflow, input_data, run_id="run")
            assert await again.result() == result
            assert again.executed == 0
        return result

    return {"alone": alone, "durably": durably}[request.param]


@pytest.fixture
def shop(monkeypatch):
    shop = order_fulfilment.Shop()
    monkeypatch.setattr(order_fulfilment, "shop", shop)
    return shop


@pytest.fixture
def disk(monkeypatch):
    disk = batches.Disk(room=1_000)
    monkeypatch.setattr(batches, "disk", disk)
    return disk


@pytest.fixture
def sleep(monkeypatch):
    """Puts another function in the place of `anyio.sleep` in an example."""

    def replace(module, function):
        monkeypatch.setattr(module, "anyio", SimpleNamespace(sleep=function))

    return replace


@pytest.fixture
def meeting(sleep):
    """Lets nobody in an example sleep on before that many are asleep at the same time."""

    def arrange(module, parties):
        asleep = []
        everybody = anyio.Event()

        async def wait(_):
            asleep.append(1)
            if len(asleep) == parties:
                everybody.set()
            with anyio.fail_after(5):
                await everybody.wait()

        sleep(module, wait)

    return arrange


class InterruptedJournal(SqliteJournal):
    """A journal that is lost after so many records."""

    def __init__(self, path, records):
        super().__init__(path)
        self.left = records

    def append(self, record):
        if self.left == 0:
            raise JournalError("lost")
        self.left -= 1
        return super().append(record)


async def interrupt_everywhere(folder, workflow, input_data):
    """What runs come to: one that loses its journal at its first record and is carried on, one at
    its second, and so on to one that keeps it."""
    results, replayed = [], []
    while True:
        file = folder / f"{len(results)}.db"
        async with DurableRunner(InterruptedJournal(file, len(results)), grace_seconds=0) as runner:
            run = await runner.start(workflow, input_data, run_id="run")
            with suppress(JournalError):
                results.append(await run.result())
                assert replayed[:1] != [1]
                assert any(replayed) or len(replayed) < 5
                return results
        async with DurableRunner(f"sqlite:///{file}", workflows=[workflow]) as runner:
            run = await runner.get("run")
            results.append(await run.result())
            replayed.append(run.replayed)


@pytest.mark.parametrize(
    ("module", "name", "input_data"),
    [
        (call_graphs, "enrich_record", "ada"),
        (call_graphs, "process_batch", ["ada", "bob"]),
        (call_graphs, "sum_squares", 4),
        (crawl, "crawl", "https://small.test"),
        (order_fulfilment, "fulfil", order_fulfilment.ORDERS[2]),
        (order_fulfilment, "fulfil", order_fulfilment.ORDERS[3]),
        (fan_out, "notify", "all is well"),
        (fan_out, "research", "plaiting"),
        (fan_out, "assess", fan_out.Loan(20_000, is_secured=True)),
        (onboarding, "onboard", onboarding.Hire("Ada", "engineer", leads=True)),
    ],
)
@pytest.mark.usefixtures("shop")
async def test_an_interrupted_run_comes_to_what_the_others_come_to(
    tmp_path, sleep, module, name, input_data
):
    sleep(module, lambda _: checkpoint())
    workflow = getattr(module, name)
    alone = await workflow(input_data)
    results = await interrupt_everywhere(tmp_path, workflow, input_data)
    assert len(results) > 4
    assert results == [alone] * len(results)


# Tensorlake


async def test_a_record_is_merged_from_its_profile_and_history(run):
    record = call_graphs.Record(name="Ada", tier="gold", spent=60)
    assert await run(call_graphs.enrich_record, "ada") == record


async def test_profile_and_history_are_fetched_at_the_same_time(run, meeting):
    meeting(call_graphs, parties=2)
    assert (await run(call_graphs.enrich_record, "ada")).name == "Ada"


async def test_a_record_is_fetched_after_the_step_that_asked_for_it(runtime):
    await call_graphs.enrich_record.execute("ada", runtime.context())
    assert runtime.paths[:2] == ["enrich_record", "enrich_record/1:enrich_record"]
    assert sorted(runtime.paths) == [
        "enrich_record",
        "enrich_record/1:enrich_record",
        "enrich_record/2:fetch_profile",
        "enrich_record/3:fetch_history",
        "enrich_record/4:merge",
    ]


async def test_a_batch_is_folded_into_a_summary(run):
    summary = await run(call_graphs.process_batch, ["ada", "bob", "carol", "dave", "erin"])
    assert summary == call_graphs.Summary(5, {"gold": 270, "basic": 200})
    assert list(summary.spent_by_tier) == ["gold", "basic"]


async def test_an_empty_batch_has_an_empty_summary(run):
    assert await run(call_graphs.process_batch, []) == call_graphs.Summary()


async def test_the_records_of_a_batch_are_fetched_at_the_same_time(run, meeting):
    meeting(call_graphs, parties=100)
    summary = await run(call_graphs.process_batch, ["ada"] * 50)
    assert summary == call_graphs.Summary(50, {"gold": 3000})


@pytest.mark.parametrize(("count", "total"), [(0, 0), (10, 285), (100, 328350)])
async def test_squares_are_accumulated(run, count, total):
    assert await run(call_graphs.sum_squares, count) == call_graphs.Total(value=total)


async def test_an_accumulator_starts_anew_in_each_run():
    assert await call_graphs.sum_squares(3) == await call_graphs.sum_squares(3)


async def test_each_page_is_read_as_its_kind_wants(run):
    told = await run(crawl.crawl, "https://plait.test")
    assert told == {
        "log": "10 words, 1 pictures",
        "editor": "please look at https://plait.test/old",
    }


async def test_the_editor_is_left_alone_where_nothing_is_missing(run):
    assert await run(crawl.crawl, "https://small.test") == {"log": "1 words, 0 pictures"}


async def test_a_site_that_is_not_there_fails_at_its_first_step(run):
    with pytest.raises(KeyError) as caught:
        await run(crawl.crawl, "https://nowhere.test")
    assert failed_path(caught.value) == "crawl/1:find_urls"


async def test_a_page_takes_one_route(runtime):
    await crawl.crawl.execute("https://plait.test", runtime.context())
    routes = [path for path in runtime.paths if "read_page" in path and "/2:router/" in path]
    assert sorted(path for path in routes if not path.endswith("/router")) == [
        "crawl/2:read_page[0]/2:router/html",
        "crawl/2:read_page[1]/2:router/png",
        "crawl/2:read_page[2]/2:router/html",
        "crawl/2:read_page[3]/2:router/missing",
        "crawl/2:read_page[4]/2:router/other",
    ]


async def test_four_pages_are_read_at_the_same_time(run, gauge, sleep):
    original = anyio.sleep

    async def wait(_):
        with gauge:
            await original(0.01)

    sleep(crawl, wait)
    await run(crawl.crawl, "https://plait.test")
    assert (gauge.peak, gauge.total) == (4, 5)


async def test_a_kind_without_a_route_needs_a_default():
    strict = RouterPrimitive({"html": crawl.count_words}, crawl.kind_of)
    with pytest.raises(UnknownRouteError, match="'rss'; its routes are 'html'"):
        await strict(crawl.Page("https://plait.test/feed", "rss", ""))


# AGNT5: order fulfilment


async def test_an_order_is_reserved_charged_and_shipped(run, shop):
    receipt = await run(order_fulfilment.fulfil, order_fulfilment.ORDERS[0])
    assert receipt == order_fulfilment.Receipt(1, "shipped", total=40, tracking="PARCEL-0001")
    assert [line.partition(",")[0] for line in shop.log] == [
        "order 1: reserved",
        "order 1: charged 40",
        "order 1: shipped",
    ]


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ({"book": 1, "unicorn": 1}, "there is no unicorn"),
        ({"unicorn": 1, "dragon": 2}, "there is no dragon and no unicorn"),
    ],
)
async def test_an_order_that_is_not_valid_goes_no_further(run, shop, items, reason):
    receipt = await run(order_fulfilment.fulfil, order_fulfilment.Order(2, items, card="valid"))
    assert receipt == order_fulfilment.Receipt(2, f"rejected: {reason}")
    assert shop.log == []


async def test_what_was_reserved_is_released_where_the_card_is_declined(run, shop):
    receipt = await run(order_fulfilment.fulfil, order_fulfilment.ORDERS[2])
    assert receipt.status == "rejected: card of order 3 is closed"
    assert shop.log == ["order 3: reserved", "order 3: released"]


async def test_a_busy_bank_is_asked_again_and_charges_once(run, shop):
    receipt = await run(order_fulfilment.fulfil, order_fulfilment.ORDERS[3])
    assert (receipt.total, receipt.tracking) == (90, "EXPRESS-0004")
    assert sum("charged" in line for line in shop.log) == 1


@pytest.mark.usefixtures("shop")
async def test_goods_are_reserved_while_the_card_is_charged(run, meeting):
    meeting(order_fulfilment, parties=2)
    assert (await run(order_fulfilment.fulfil, order_fulfilment.ORDERS[0])).status == "shipped"


async def test_an_order_goes_on_from_the_carrier_that_failed(journal, shop):
    order = order_fulfilment.ORDERS[3]
    shop.carrier_works = False
    async with DurableRunner(journal) as runner:
        with pytest.raises(ConnectionError, match="carrier does not answer") as caught:
            await runner.run(order_fulfilment.fulfil, order, run_id="order-4")
    assert failed_path(caught.value) == "fulfil/3:ship"
    shop.carrier_works = True
    async with DurableRunner(journal, workflows=[order_fulfilment.fulfil]) as runner:
        run = await runner.resume("order-4")
        assert (await run.result()).status == "shipped"
        # Found: find_problem, reserve, and the bank's two attempts.
        assert (run.replayed, run.executed) == (4, 1)
    assert shop.log == [
        "order 4: reserved",
        "order 4: charged 90, key order-4:fulfil/parallel~4303ab3269/2:charge_card",
        "order 4: shipped",
    ]


# AGNT5: failure isolation, fan-out and fan-in, conditional parallel steps


async def test_a_channel_that_is_down_takes_no_other_with_it(run):
    sent = await run(fan_out.notify, "all is well")
    assert list(sent.items()) == [
        ("mail", "mailed 'all is well'"),
        ("text", "failed: the gateway is down"),
        ("chat", "posted 'all is well'"),
    ]


async def test_what_three_sources_know_makes_one_brief(run):
    brief = await run(fan_out.research, "plaiting")
    assert brief == "2 papers, 'Plaiting in the news', 800 mentions"


@pytest.mark.parametrize(
    ("loan", "checks", "decision"),
    [
        (fan_out.Loan(5_000), ["check_credit"], "granted after 1 checks: []"),
        (
            fan_out.Loan(30_000),
            ["check_credit", "check_income"],
            """declined after 2 checks: ["needs more than 24 months' income"]""",
        ),
        (
            fan_out.Loan(5_000, is_secured=True),
            ["check_credit", "value_security"],
            "granted after 2 checks: []",
        ),
        (
            fan_out.Loan(20_000, is_secured=True),
            ["check_credit", "check_income", "value_security"],
            "granted after 3 checks: []",
        ),
    ],
)
async def test_a_loan_gets_the_checks_that_it_needs(run, runtime, loan, checks, decision):
    assert await run(fan_out.assess, loan) == decision
    assert await fan_out.assess.execute(loan, runtime.context()) == decision
    nodes = [*checks, "decide"]
    expected = [f"assess/{place}:{name}" for place, name in enumerate(nodes, 1)]
    assert sorted(runtime.paths) == ["assess", *expected]


# AGNT5: batches of a hundred


async def test_rows_are_imported_a_hundred_at_a_time(run, disk, monkeypatch):
    sizes = []
    extend = list.__iadd__

    class Rows(list):
        def __iadd__(self, rows):
            sizes.append(len(rows))
            return extend(self, rows)

    monkeypatch.setattr(disk, "saved", Rows())
    imported = await run(batches.import_rows, batches.make_rows(350))
    assert imported == batches.Imported(
        rows=348,
        batches=4,
        rejected=[
            "invalid literal for int() with base 10: 'row 150'",
            "invalid literal for int() with base 10: 'row 300'",
        ],
    )
    assert sizes == [100, 99, 99, 50]
    assert disk.saved == [number for number in range(1, 351) if number % 150]


@pytest.mark.usefixtures("disk")
async def test_no_rows_make_no_batch(run):
    assert await run(batches.import_rows, []) == batches.Imported()


async def test_a_full_disk_fails_the_run_in_its_batch(run, disk):
    disk.room = 250
    with pytest.raises(OSError, match="no room for 99 rows, 199 are saved") as caught:
        await run(batches.import_rows, batches.make_rows(450))
    # One node for the rows of each batch, and one for saving them.
    assert failed_path(caught.value) == "import_rows/6:save"
    assert len(disk.saved) == 199


async def test_an_import_goes_on_in_the_batch_that_failed(journal, disk):
    rows = batches.make_rows(450)
    disk.room = 250
    async with DurableRunner(journal) as runner:
        with pytest.raises(OSError, match="no room"):
            await runner.run(batches.import_rows, rows, run_id="monday")
    disk.room = 1_000
    async with DurableRunner(journal, workflows=[batches.import_rows]) as runner:
        run = await runner.resume("monday")
        imported = await run.result()
        # Found: the rows of three batches, and two that were saved.
        assert (run.replayed, run.executed) == (5, 153)
    assert (imported.rows, imported.batches) == (447, 5)
    assert disk.saved == [number for number in range(1, 451) if number % 150]


# AGNT5: hierarchical onboarding

ADA = onboarding.Hire("Ada", "engineer", leads=True)
WELCOME_ADA = (
    "Welcome Ada! ['ada@mail', 'ada@code', 'ada@vpn'], a workstation laptop, "
    "courses: ['security', 'hiring', 'feedback']"
)


async def test_a_hire_gets_what_the_workflows_below_set_up(run):
    assert await run(onboarding.onboard, ADA) == WELCOME_ADA
    assert await onboarding.onboard(onboarding.Hire("Bob", "designer")) == (
        "Welcome Bob! ['bob@mail', 'bob@files'], a light laptop, courses: ['security']"
    )


async def test_accounts_and_laptop_are_set_up_at_the_same_time(run, meeting):
    meeting(onboarding, parties=4)
    assert await run(onboarding.onboard, ADA) == WELCOME_ADA


async def test_every_step_ticks_itself_off_at_its_place_in_the_tree():
    context = WorkflowContext()
    await onboarding.onboard.execute(ADA, context)
    assert sorted(context.data["done"]) == [
        "onboard/1:set_up_accounts/1:create_account",
        "onboard/1:set_up_accounts/2:create_account",
        "onboard/1:set_up_accounts/3:create_account",
        "onboard/2:equip/1:order_laptop",
        "onboard/2:equip/2:install_software",
        "onboard/3:plan_training/1:book_course",
        "onboard/3:plan_training/2:train_lead/1:book_course",
        "onboard/3:plan_training/2:train_lead/2:book_course",
        "onboard/4:welcome",
    ]


async def test_a_failure_below_says_where_it_was(run):
    with pytest.raises(PermanentError, match="no accounts for the cockpit") as caught:
        await run(onboarding.onboard, onboarding.Hire("Cy", "pilot"))
    assert failed_path(caught.value) == "onboard/1:set_up_accounts/2:create_account"


@pytest.mark.parametrize(
    ("workflow", "result"),
    [
        (onboarding.set_up_accounts, ["ada@mail", "ada@code", "ada@vpn"]),
        (onboarding.equip, onboarding.Laptop("Ada", "workstation", ("office", "chat"))),
        (onboarding.plan_training, ["security", "hiring", "feedback"]),
        (onboarding.train_lead, ["hiring", "feedback"]),
    ],
    ids=str,
)
async def test_each_workflow_below_also_runs_by_itself(run, workflow, result):
    assert await run(workflow, ADA) == result


# AGNT5: a class-based data pipeline


def make_pipelines():
    warehouse = data_pipeline.Warehouse()
    europe = data_pipeline.SalesPipeline("europe", cents=100, warehouse=warehouse)
    japan = data_pipeline.SalesPipeline("japan", cents=0.6, warehouse=warehouse)
    return warehouse, europe, japan


async def test_sales_are_read_cleaned_and_loaded(run):
    warehouse, europe, _ = make_pipelines()
    report = await run(europe.run, data_pipeline.SALES["europe"])
    assert report == data_pipeline.Report(
        "europe", loaded=2, cents=550, refused=["could not convert string to float: 'n/a'"]
    )
    assert warehouse.rows == {
        1: data_pipeline.Sale(1, "tea", 350),
        2: data_pipeline.Sale(2, "bread", 200),
    }


async def test_each_pipeline_has_what_it_was_made_with(run):
    warehouse, _, japan = make_pipelines()
    report = await run(japan.run, data_pipeline.SALES["japan"])
    assert report == data_pipeline.Report("japan", loaded=2, cents=1080, refused=[])
    assert [sale.cents for sale in warehouse.rows.values()] == [360, 720]


async def test_pipelines_of_one_class_run_durably_side_by_side(journal):
    warehouse, europe, japan = make_pipelines()
    workflows = [europe.run.named("sales-europe"), japan.run.named("sales-japan")]
    async with DurableRunner(journal, workflows=workflows) as runner:
        runs = [
            await runner.start(workflow, sales)
            for workflow, sales in zip(workflows, data_pipeline.SALES.values(), strict=True)
        ]
        reports = [await run.result() for run in runs]
    assert [report.market for report in reports] == ["europe", "japan"]
    assert sorted(warehouse.rows) == [1, 2, 7, 8]


async def test_a_busy_warehouse_is_asked_again(runtime):
    _, europe, _ = make_pipelines()
    await europe.run.execute(data_pipeline.SALES["europe"], runtime.context())
    assert runtime.paths[-2:] == ["run/2:write/attempt 1", "run/2:write/attempt 2"]


async def test_files_are_read_in_a_thread(run, monkeypatch):
    threads = []

    def read(lines):
        threads.append(threading.get_ident())
        return original(lines)

    original = data_pipeline.csv.DictReader
    monkeypatch.setattr(data_pipeline, "csv", SimpleNamespace(DictReader=read))
    _, _, japan = make_pipelines()
    await run(japan.run, data_pipeline.SALES["japan"])
    assert len(threads) == 1
    assert threads != [threading.get_ident()]


# What a person sees


@pytest.mark.parametrize(
    ("module", "lines"),
    [
        (
            call_graphs,
            [
                "enrich_record: Record(name='Ada', tier='gold', spent=60)",
                "process_batch: Summary(records=5, spent_by_tier={'gold': 270, 'basic': 200})",
                "sum_squares:   value=285",
            ],
        ),
        (
            crawl,
            [
                "  reduce(accumulate)",
                "https://small.test: {'log': '1 words, 0 pictures'}",
            ],
        ),
        (
            order_fulfilment,
            [
                "Receipt(order=1, status='shipped', total=40, tracking='PARCEL-0001')",
                "  in step 'ship' (fulfil/3:ship, run order-4)",
                "Receipt(order=4, status='shipped', total=90, tracking='EXPRESS-0004')",
                "  4 steps found done, 1 executed",
                "  order 4: charged 90, key order-4:fulfil/parallel~4303ab3269/2:charge_card",
            ],
        ),
        (
            fan_out,
            [
                "notify text: failed: the gateway is down",
                "research: 2 papers, 'Plaiting in the news', 800 mentions",
            ],
        ),
        (
            batches,
            [
                "  in step 'save' (import_rows/6:save, run monday)",
                "resumed: 5 steps found done, 153 executed",
                "on disk: 447 rows, 447 of them different",
            ],
        ),
        (
            onboarding,
            [
                WELCOME_ADA,
                "  onboard/3:plan_training/2:train_lead/2:book_course",
                "Cy waits: there are no accounts for the cockpit",
            ],
        ),
        (
            data_pipeline,
            [
                "in process: Report(market='japan', loaded=2, cents=1080, refused=[])",
                "durably:    Report(market='japan', loaded=2, cents=1080, refused=[])",
            ],
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_an_example_prints_what_it_is_about(shop, disk, capsys, module, lines):
    disk.room = 250
    await module.main()
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line not in printed] == []
