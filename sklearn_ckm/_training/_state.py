"""The state of a phase between two epochs: gone back to after a failure, kept to resume a fit."""

import copy
from contextlib import nullcontext

import torch


def take_state(net, batches):
    """Copy everything that the next epochs of a phase depend on.

    Parameters
    ----------
    net : PhaseNet
        Initialised.
    batches : DomainBatches
        What it trains on.

    Returns
    -------
    state : dict
        Independent of the net; tensors are where the net has them.
    """
    with _shield(net):
        return {
            "module": copy.deepcopy(net.module_.state_dict()),
            "is_trained": trained_parameters(net.module_),
            "optimizer": copy.deepcopy(net.optimizer_.state_dict()),
            "generators": [g.get_state().numpy() for g in _generators(net, batches)],
            "random_state": [s.numpy() for s in _global_random_states(net)],
            "n_epochs": len(net.history),
            "stop_reason": net.stop_reason,
            "is_slowed": net.is_slowed,
            **copy.deepcopy(net.get_phase_state()),
        }


def restore_state(net, batches, state):
    """Bring a phase back to where :func:`take_state` saw it, its history included.

    Parameters
    ----------
    net : PhaseNet
        Changed in place.
    batches : DomainBatches
        Changed in place.
    state : dict
        Left as it is.
    """
    with _shield(net):
        net.module_.load_state_dict(state["module"])
        set_trained_parameters(net.module_, state["is_trained"])
        net.optimizer_.load_state_dict(state["optimizer"])
        for generator, saved in zip(_generators(net, batches), state["generators"], strict=True):
            generator.set_state(torch.from_numpy(saved))
        saved = [torch.from_numpy(s) for s in state["random_state"]]
        torch.set_rng_state(saved[0])
        if len(saved) > 1:
            torch.cuda.set_rng_state(saved[1], net.device)
        del net.history[state["n_epochs"] :]
        net.stop_reason = state["stop_reason"]
        net.is_slowed = state["is_slowed"]
        net.set_phase_state(copy.deepcopy(state))


def trained_parameters(module):
    """Return, by name, whether a parameter is trained: a callback may have frozen some."""
    return {name: parameter.requires_grad for name, parameter in module.named_parameters()}


def set_trained_parameters(module, is_trained):
    """Freeze and free parameters as :func:`trained_parameters` found them."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(is_trained[name])


def _shield(net):
    """No Ctrl-C, not even a second one, shall leave a state that is half copied."""
    return nullcontext() if net.interrupts is None else net.interrupts.shield()


def _generators(net, batches):
    return [g for g in (net.generator, batches.generator) if g is not None]


def _global_random_states(net):
    """Torch's global generators, from which dropout is drawn."""
    states = [torch.get_rng_state()]
    if torch.device(net.device).type == "cuda":
        states.append(torch.cuda.get_rng_state(net.device))
    return states
