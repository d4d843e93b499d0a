"""The command that starts or resumes a run: one validated input for form, JSON and shell."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from benchlib.application.choices import Choices
from benchlib.domain.vocabulary import AnswerMode, Language, ScaleMode, SimulatedPreset
from benchlib.settings import check_addresses

LONGEST_SYSTEM_PROMPT = 20_000


class StartBenchmark(Choices):
    """Everything that can be chosen for a run, or a run to resume.

    With `resume_run_id` only the engine's address and key may be given besides: a run never changes
    its configuration.
    """

    model_config = ConfigDict(str_strip_whitespace=True)

    dataset_id: Annotated[int, Field(ge=1)] | None = None
    model_name: Annotated[str, Field(max_length=500)] = ""
    llm: Literal["vllm", "simulated", "fake"] = "vllm"
    vllm_base_url: Annotated[str, Field(max_length=2_000)] | None = None
    vllm_api_key: SecretStr | None = None
    batch_size: Annotated[int, Field(ge=1, le=1_024)] = 32
    max_new_tokens: Annotated[int, Field(ge=1, le=8_192)] = 256
    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    include_rationale: bool = False
    system_prompt: Annotated[str, Field(max_length=LONGEST_SYSTEM_PROMPT)] | None = None
    scale_mode: ScaleMode = "random50"
    dual_fraction: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.2
    attrgen_run_id: int | None = None
    resume_run_id: Annotated[int, Field(ge=1)] | None = None
    answer_mode: AnswerMode | None = None
    language: Language = "en"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    trait_ids: list[int] | None = None
    simulated_items_per_second: Annotated[float, Field(gt=0, le=1e6)] | None = None
    simulated_fault_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    simulated_preset: SimulatedPreset = "usual"

    @field_validator("vllm_base_url")
    @classmethod
    def _validate_addresses(cls, text: str | None) -> str | None:
        return check_addresses(text)

    @model_validator(mode="after")
    def _validate_combination(self) -> "StartBenchmark":
        if self.resume_run_id is not None:
            allowed = {"resume_run_id", "dataset_id", "vllm_base_url", "vllm_api_key"}
            extra = sorted(self.model_fields_set - allowed)
            if extra:
                raise ValueError(
                    f"a resumed run keeps its configuration; leave out {', '.join(extra)}"
                )
        elif self.dataset_id is None:
            raise ValueError("name a dataset_id, or a resume_run_id")
        if self.include_rationale and self.answer_mode not in (None, "rationale"):
            raise ValueError("include_rationale needs answer_mode rationale")
        if self.trait_ids is not None and not self.trait_ids:
            raise ValueError("trait_ids is empty; name at least one, or leave it out for all")
        return self

    @property
    def mode(self) -> AnswerMode:
        """How the rating is asked for; `distribution` unless another mode is chosen."""
        if self.answer_mode is not None:
            return self.answer_mode
        return "rationale" if self.include_rationale else "distribution"
