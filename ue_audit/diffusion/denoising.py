"""What the passes of a diffusion purifier share, guided or not: their settings, and where they start.

A pass starts at T_p. Where the owner names none it follows from the budget of the protection: the largest t whose
noise has a standard deviation of at most `noise_ratio` times eps. For eps = 8/255 that is t = 60 (26.2 levels).
"""

from typing import Literal, NamedTuple, Self, TypeVar

from pydantic import Field, model_validator

from ue_audit import config as base
from ue_audit.config import show_fraction
from ue_audit.diffusion.prior import Prior, load_prior
from ue_audit.diffusion.sampling import Denoise, Sampler, ancestral, ddim, denoiser, dpm, spread
from ue_audit.diffusion.schedule import Schedule
from ue_audit.errors import UsageError
from ue_audit.tools import Tools
from ue_audit.training.cost import FORWARD

ASSUMED_EPS = 8 / 255  # of a protection whose budget is unknown or not of linf
NO_PRIOR = "name one with --prior, or: ue-audit train-prior RAW"


class Config(base.Config):
    t_purify: int | None = Field(None, ge=1, le=1000)  # T_p, where a pass starts; null: by noise_ratio
    noise_ratio: float = Field(3.3, gt=0, le=100)  # the noise there, at most, in eps; in the literature about 1.3
    passes: int = Field(2, ge=1, le=100)  # N; each starts from the result of the one before
    steps: int | None = Field(2, ge=1, le=1000)  # network evaluations per pass; null: every timestep
    spacing: Literal["time", "log-snr"] = "time"  # steps even in t, or in log(alpha_bar / (1 - alpha_bar))
    sampler: Literal["ancestral", "ddim", "dpm"] = "ddim"  # dpm: DPM-Solver++(2M)
    eta: float = Field(1.0, ge=0, le=1)  # of ddim: its noise, as a share of the posterior's
    variance: Literal["large", "small"] = "large"  # of ancestral: beta_t, or the posterior's
    precision: Literal["auto", "bf16", "float32"] = "auto"  # of the network; auto: bf16 where hardware has it

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.steps and self.t_purify and self.steps > self.t_purify:
            raise ValueError(f"steps = {self.steps} is above t_purify = {self.t_purify}")
        return self


ConfigT = TypeVar("ConfigT", bound=Config)


class Denoising(NamedTuple):
    """The chain of a pass: the prior, its timesteps from T_p down, one step, and x_t, t -> x0hat."""

    prior: Prior
    times: list[int]
    sampler: Sampler
    denoise: Denoise


def follows_eps(config: Config) -> bool:
    """Whether the budget of the protection decides about the result."""
    return config.t_purify is None


def settle(config: ConfigT, tools: Tools) -> ConfigT:
    """The configuration with t_purify known. Raises ResourceError without a prior, UsageError for too many steps."""
    if config.t_purify is not None:
        return config
    prior = load_prior(tools.require_weights("prior", hint=NO_PRIOR))
    eps = ASSUMED_EPS if tools.eps is None else tools.eps
    wanted = t_for(prior.schedule, eps, config.noise_ratio)
    t_purify = min(max(wanted, config.steps or 1), prior.t_max)
    if config.steps and config.steps > t_purify:
        raise UsageError(f"expected at most {t_purify} steps, the timesteps of this prior, found {config.steps}")
    if wanted > prior.t_max:
        tools.warn(
            f"Purified from t = {prior.t_max}, where this prior ends; {config.noise_ratio:g} times eps = "
            f"{show_fraction(eps)} asks for t = {wanted}: train a prior with --set t_max={wanted}."
        )
    tools.note("eps", {"value": show_fraction(eps), "assumed": tools.eps is None})
    return config.model_copy(update={"t_purify": t_purify})


def t_for(schedule: Schedule, eps: float, noise_ratio: float) -> int:
    """The largest t whose noise is at most noise_ratio x eps, of eps in the range [0,1]; at least 1."""
    return schedule.t_within(2 * noise_ratio * eps)  # the chain lives in [-1,1]


def passes(config: Config, images: int) -> float:
    """The prior's forward passes; where t_purify is open, those of the assumed eps."""
    t_purify = config.t_purify or t_for(Schedule.linear(), ASSUMED_EPS, config.noise_ratio)
    return config.passes * (config.steps or t_purify) * FORWARD


def begin(config: Config, tools: Tools) -> Denoising:
    """The chain of a settled configuration. Raises ResourceError without a prior, UsageError if it ends below T_p."""
    prior = load_prior(tools.require_weights("prior", hint=NO_PRIOR)).to(tools.device, config.precision)
    assert config.t_purify is not None
    prior.check_timestep(config.t_purify)
    times = spread(prior.schedule, config.t_purify, config.steps, config.spacing)
    samplers = {
        "ancestral": lambda: ancestral(prior.schedule, config.variance),
        "ddim": lambda: ddim(prior.schedule, config.eta),
        "dpm": lambda: dpm(prior.schedule),
    }
    return Denoising(prior, times, samplers[config.sampler](), denoiser(prior))
