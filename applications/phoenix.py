"""Phoenix of Arize: traces, data sets, experiments and prompts of language models.

Async sessions with asyncpg, ``Mapped`` classes of three hierarchies by joined and by
single inheritance, types of its own that refuse what is not theirs, and statements
with ON CONFLICT and RETURNING.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from applications.life import Application, Operation, main


def load(url: str, folder: Path) -> Application:
    os.environ["PHOENIX_WORKING_DIR"] = str(folder)
    from phoenix.db import models

    runner = asyncio.Runner()
    database = runner.run(connect(url))

    def step(function: Callable[[AsyncSession], Awaitable[None]]) -> Operation:
        async def operation() -> None:
            async with database() as session:
                await function(session)

        return function.__name__, lambda: runner.run(operation())

    from phoenix.db.facilitator import Facilitator

    return Application(
        metadata=models.Base.metadata,
        registry=models.Base.registry,
        packages=["phoenix"],
        operations=[
            ("start", lambda: runner.run(Facilitator(db=database)())),
            *map(step, operations()),
            ("start again", lambda: runner.run(Facilitator(db=database)())),
        ],
    )


async def connect(url: str) -> Any:
    from phoenix.db.engines import create_engine
    from phoenix.server.app import _db
    from phoenix.server.types import DbSessionFactory

    engine = create_engine(url, migrate=False)
    return DbSessionFactory(_db(engine), dialect="postgresql")


def operations() -> list[Callable[[AsyncSession], Awaitable[None]]]:
    from phoenix.db import models
    from phoenix.db.helpers import SupportedSQLDialect
    from phoenix.db.insertion import dataset, helpers, span
    from phoenix.db.types import annotation_configs as configs
    from phoenix.db.types import evaluators, prompts
    from phoenix.db.types.identifier import Identifier
    from phoenix.db.types.model_provider import ModelProvider
    from phoenix.trace import schemas

    began = datetime(2026, 5, 1, tzinfo=timezone.utc)

    async def users(session: AsyncSession) -> None:
        role = await session.scalar(
            select(models.UserRole).where(models.UserRole.name == "MEMBER")
        )
        for name in ("ada", "bob"):
            session.add(
                models.LocalUser(
                    email=f"{name}@x.org",
                    username=name,
                    user_role_id=role.id,
                    password_hash=b"hash",
                    password_salt=b"salt",
                )
            )
        await session.flush()
        ada = await session.scalar(select(models.User).filter_by(username="ada"))
        ada.username = "ada l"
        session.add(models.ApiKey(user_id=ada.id, name="key", description=None))

    async def spans(session: AsyncSession) -> None:
        for number in range(20):
            made = schemas.Span(
                name=f"call {number}",
                context=schemas.SpanContext(f"trace{number // 5}", f"span{number}"),
                span_kind=schemas.SpanKind.LLM,
                parent_id=f"span{number - 1}" if number % 5 else None,
                start_time=began + timedelta(seconds=number),
                end_time=began + timedelta(seconds=number + 1.5),
                status_code=schemas.SpanStatusCode.OK,
                status_message="",
                attributes={
                    "session": {"id": f"s{number // 10}"},
                    "llm": {"token_count": {"prompt": number, "completion": 2}},
                },
                events=[],
                conversation=None,
            )
            await span.insert_span(session, made, f"project{number % 2}")

    async def annotations(session: AsyncSession) -> None:
        found = (await session.scalars(select(models.Span.id))).all()
        for label in ("good", "bad"):
            records = [
                {
                    "span_rowid": id_,
                    "name": "quality",
                    "label": label,
                    "score": 0.5,
                    "explanation": None,
                    "metadata_": {"n": id_},
                    "identifier": "",
                    "annotator_kind": "HUMAN",
                    "source": "API",
                }
                for id_ in found
            ]
            await session.execute(
                helpers.insert_on_conflict(
                    *records,
                    table=models.SpanAnnotation,
                    dialect=SupportedSQLDialect.POSTGRESQL,
                    unique_by=("name", "span_rowid", "identifier"),
                )
            )

    def example(text: str, **options: Any) -> Any:
        content = dataset.ExampleContent(
            input={"q": text}, output={"a": text.upper()}, **options
        )
        hashed = hashlib.sha256(text.encode()).digest()
        return dataset.ExampleWithHash(content, hashed)

    async def data(session: AsyncSession) -> None:
        examples = [
            example(f"text {n}", external_id=f"e{n}", splits=frozenset({"train"}))
            for n in range(10)
        ]
        await dataset.add_dataset_examples(session, "questions", examples)

    async def more_data(session: AsyncSession) -> None:
        examples = [
            example(f"text {n} again", external_id=f"e{n}", splits=frozenset({"test"}))
            for n in range(5, 15)
        ]
        action = dataset.DatasetAction.UPDATE
        await dataset.add_dataset_examples(
            session, "questions", examples, action=action
        )

    def version(text: str) -> Any:
        message = prompts.PromptMessage(role="user", content=text)
        parameters = prompts.PromptOpenAIInvocationParametersContent(temperature=0.5)
        return models.PromptVersion(
            template_type=prompts.PromptTemplateType.CHAT,
            template_format=prompts.PromptTemplateFormat.MUSTACHE,
            template=prompts.PromptChatTemplate(type="chat", messages=[message]),
            invocation_parameters=prompts.PromptOpenAIInvocationParameters(
                type="openai", openai=parameters
            ),
            model_provider=ModelProvider.OPENAI,
            model_name="gpt",
            metadata_={"text": text},
        )

    async def prompt(session: AsyncSession) -> None:
        for name in ("greet", "judge"):
            made = models.Prompt(name=Identifier(name), metadata_={})
            made.prompt_versions = [version(f"{name} {n}") for n in range(3)]
            session.add(made)
            await session.flush()
            session.add(
                models.PromptVersionTag(
                    name=Identifier("best"),
                    prompt_id=made.id,
                    prompt_version_id=made.prompt_versions[1].id,
                )
            )

    async def judges(session: AsyncSession) -> None:
        judge = await session.scalar(select(models.PromptVersionTag).limit(1))
        value = configs.CategoricalAnnotationValue(label="good", score=1.0)
        output = configs.CategoricalOutputConfig(
            name="quality",
            type="CATEGORICAL",
            values=[value],
            optimization_direction=configs.OptimizationDirection.MAXIMIZE,
        )
        llm = models.LLMEvaluator(
            name=Identifier("llm"),
            metadata_={"x": 1},
            prompt_id=judge.prompt_id,
            prompt_version_tag_id=judge.id,
            output_configs=[output],
        )
        code = models.CodeEvaluator(
            name=Identifier("code"),
            metadata_={},
            language="PYTHON",
            input_mapping=evaluators.InputMapping(literal_mapping={}, path_mapping={}),
            output_configs=[output],
        )
        code.versions = [models.CodeEvaluatorVersion(source_code="def f(): ...")]
        session.add_all([llm, code])
        await session.flush()
        llm.description = "of the base's table"
        code.output_configs = []

    async def experiments(session: AsyncSession) -> None:
        of = await session.scalar(select(models.Dataset))
        newest = await session.scalar(
            select(models.DatasetVersion).order_by(models.DatasetVersion.id.desc())
        )
        examples = (await session.scalars(select(models.DatasetExample))).all()
        for name in ("first", "second"):
            made = models.Experiment(
                dataset_id=of.id,
                dataset_version_id=newest.id,
                name=name,
                repetitions=1,
                metadata_={},
            )
            session.add(made)
            await session.flush()
            runs = [
                models.ExperimentRun(
                    experiment_id=made.id,
                    dataset_example_id=one.id,
                    repetition_number=1,
                    output={"task_output": "x"},
                    start_time=began,
                    end_time=began,
                )
                for one in examples
            ]
            session.add_all(runs)
            source = version("task")
            session.add(
                models.ExperimentPromptTask(
                    id=made.id,
                    model_provider=source.model_provider,
                    model_name="gpt",
                    template_type=source.template_type,
                    template=source.template,
                    template_format=source.template_format,
                    invocation_parameters=source.invocation_parameters,
                )
            )
            await session.flush()
            session.add_all(
                models.ExperimentTaskLog(
                    experiment_id=made.id,
                    level="INFO",
                    message="ran",
                    dataset_example_id=one.id,
                    repetition_number=1,
                )
                for one in examples[:3]
            )

    async def changes(session: AsyncSession) -> None:
        job = await session.scalar(select(models.ExperimentPromptTask))
        job.status = "RUNNING"
        job.model_name = "gpt 2"
        await session.execute(update(models.Experiment).values(repetitions=2))
        await session.execute(
            update(models.Trace).values(end_time=models.Trace.start_time)
        )

    async def removals(session: AsyncSession) -> None:
        # ON DELETE CASCADE, SET NULL and the cascades of the ORM.
        first = await session.scalar(select(models.Experiment).filter_by(name="first"))
        await session.execute(
            delete(models.Experiment).where(models.Experiment.id == first.id)
        )
        await session.execute(
            delete(models.Project).where(models.Project.name == "project0")
        )
        await session.delete(
            await session.scalar(select(models.Evaluator).filter_by(kind="LLM"))
        )
        await session.flush()
        greet = await session.scalar(
            select(models.Prompt).where(models.Prompt.name == Identifier("greet"))
        )
        for loaded in ("prompt_versions", "prompt_version_tags"):
            await session.refresh(greet, [loaded])
        await session.delete(greet)
        await session.execute(delete(models.User).filter_by(username="ada l"))

    return [
        users,
        spans,
        annotations,
        data,
        more_data,
        prompt,
        judges,
        experiments,
        changes,
        removals,
    ]


if __name__ == "__main__":
    main(load)
