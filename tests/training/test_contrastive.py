"""SimCLR, MoCo v2 and BYOL: losses by hand, where gradients go, what moves when."""

import math

import pytest
import torch
from torch.nn import functional as F

from ue_audit.training import backbones, contrastive
from ue_audit.training.contrastive import PUBLISHED, Recipe, Settings

SETTINGS = Settings(batch=4, queue=6, ema=0.9)


def images(n=4, side=16, seed=0):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def built(algorithm, seed=1, settings=SETTINGS):
    return contrastive.build(algorithm, "small", seed, settings, images=100)


def digest(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


# -- losses ------------------------------------------------------------------------------------------------------


def test_nt_xent_is_the_formula_summed_one_anchor_at_a_time():
    z = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    terms = []
    for i in range(6):
        cosine = [float(F.cosine_similarity(z[i], z[j], dim=0)) for j in range(6)]
        partner = (i + 3) % 6
        others = sum(math.exp(cosine[j] / 0.5) for j in range(6) if j != i)
        terms.append(-math.log(math.exp(cosine[partner] / 0.5) / others))
    assert float(contrastive.nt_xent(z, 0.5)) == pytest.approx(0.5 / 0.07 * sum(terms) / 6)


def test_nt_xent_of_views_that_match_and_of_views_that_do_not():
    # Orthogonal images, equal views: each anchor sees its partner at 1 and 2B - 2 others at 0 (B = 2, T = 0.5).
    z = torch.eye(2).repeat(2, 1)
    matched = -math.log(math.exp(2) / (math.exp(2) + 2)) * 0.5 / 0.07
    assert float(contrastive.nt_xent(z, 0.5)) == pytest.approx(matched, rel=1e-5)
    # Partners orthogonal, and equal to another image's view: one other at 1, partner and the other's partner at 0.
    crossed = -math.log(1 / (math.exp(2) + 2)) * 0.5 / 0.07
    assert float(contrastive.nt_xent(torch.tensor([[1.0, 0], [0, 1], [0, 1], [1, 0]]), 0.5)) == pytest.approx(crossed)


def test_info_nce_against_a_queue_by_hand():
    # q.k = 1, two keys in the queue at 0 and -1, T = 0.2: -log(e^5 / (e^5 + 1 + e^-5)), times 0.2 / 0.07
    queries, queue = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    expected = -math.log(math.exp(5) / (math.exp(5) + 1 + math.exp(-5))) * 0.2 / 0.07
    assert float(contrastive.info_nce(queries, queries, queue, 0.2)) == pytest.approx(expected, rel=1e-4)


def test_byols_loss_is_the_mean_negative_cosine_of_both_directions():
    model = built("byol").freeze(True)
    a, b = images(seed=1), images(seed=2)

    def cosine(u, v):
        return F.cosine_similarity(model.predictor(model.online(u)), model.target(v)).mean()

    assert float(model.loss(a, b)) == pytest.approx(float(-(cosine(a, b) + cosine(b, a)) / 2), abs=1e-5)


def test_mocos_loss_is_the_query_of_a_against_the_key_of_b():
    model = built("moco").freeze(True)
    a, b = images(seed=1), images(seed=2)
    q, k = F.normalize(model.online(a), dim=1), F.normalize(model.target(b), dim=1)
    loss, keys = model.compute(a, b)
    assert torch.allclose(keys, k, atol=1e-5) and not keys.requires_grad
    assert float(loss) == pytest.approx(float(contrastive.info_nce(q, k, model.queue, 0.2)), rel=1e-4)


# -- the papers' pseudo-code, one whole step, line by line ---------------------------------------------------------


def views_of(n=4):
    return images(n, seed=1), images(n, seed=2)


def moved(weights, gradients, lr, decay=1e-4):
    """A first step of SGD: no momentum yet."""
    return [w - lr * (g + decay * w) for w, g in zip(weights, gradients, strict=True)]


def stepped(model, lr=0.1):
    optimiser = contrastive.sgd(model, SETTINGS)
    optimiser.param_groups[0]["lr"] = lr
    return contrastive.train_step(model, optimiser, *views_of())


def test_simclrs_algorithm_1_with_views_numbered_as_in_the_paper():
    # z_{2k-1}, z_{2k} are the views of image k; l(i,j) = -log exp(s_ij / T) / sum over k != i of exp(s_ik / T);
    # L = 1/2N sum over k of l(2k-1, 2k) + l(2k, 2k-1). Ours is L times T / 0.07, with all first views first.
    n, temperature = 3, 0.5
    z = torch.randn(2 * n, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    s = [[float(z[i] @ z[j] / (z[i].norm() * z[j].norm())) for j in range(2 * n)] for i in range(2 * n)]

    def term(i, j):
        total = sum(math.exp(s[i][k] / temperature) for k in range(2 * n) if k != i)
        return -math.log(math.exp(s[i][j] / temperature) / total)

    loss = sum(term(2 * k, 2 * k + 1) + term(2 * k + 1, 2 * k) for k in range(n)) / (2 * n)
    firsts_first = torch.cat([z[0::2], z[1::2]])
    assert float(contrastive.nt_xent(firsts_first, temperature)) == pytest.approx(temperature / 0.07 * loss)


def test_mocos_algorithm_1():
    model, twin = built("moco"), built("moco").train()
    x_q, x_k = views_of()
    q = F.normalize(twin.online(x_q), dim=1)
    with torch.no_grad():
        k = F.normalize(twin.target(x_k), dim=1)  # no gradient to keys
    l_pos = torch.stack([q[i] @ k[i] for i in range(4)])[:, None]  # N x 1
    l_neg = q @ twin.queue.T  # N x K
    logits = torch.cat([l_pos, l_neg], dim=1)
    loss = F.cross_entropy(logits / 0.2, torch.zeros(4, dtype=torch.long))  # positives are the 0-th
    loss = 0.2 / 0.07 * loss
    f_q = list(twin.online.parameters())
    f_q = moved(f_q, torch.autograd.grad(loss, f_q), lr=0.1)
    f_k = [0.9 * slow + (1 - 0.9) * fast for slow, fast in zip(twin.target.parameters(), f_q, strict=True)]
    queue = torch.cat([k, twin.queue[4:]])  # enqueue the batch in place of the earliest

    assert stepped(model) == pytest.approx(loss.item(), rel=1e-4)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(model.online.parameters(), f_q, strict=True))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(model.target.parameters(), f_k, strict=True))
    assert torch.allclose(model.queue, queue, atol=1e-5)


def test_byols_algorithm_1():
    # ||q - z'||^2 of unit vectors = 2 - 2 cos; both directions summed. Ours is (that - 4) / 4: gradients a quarter.
    model, twin = built("byol"), built("byol").train()
    t, t_ = views_of()
    prediction = twin.predictor(twin.online(torch.cat([t, t_])))  # both views in one batch, as its norms see them
    with torch.no_grad():
        target = twin.target(torch.cat([t_, t]))
    q, z = F.normalize(prediction, dim=1), F.normalize(target, dim=1)
    both = (q - z).square().sum(1)
    published = (both[:4] + both[4:]).mean()
    loss = (published - 4) / 4
    theta = [*twin.online.parameters(), *twin.predictor.parameters()]
    theta = moved(theta, torch.autograd.grad(loss, theta), lr=0.1)
    online = theta[: len(list(twin.online.parameters()))]
    xi = [0.9 * slow + (1 - 0.9) * fast for slow, fast in zip(twin.target.parameters(), online, strict=True)]

    assert stepped(model) == pytest.approx(loss.item(), abs=1e-4)
    learnt = [*model.online.parameters(), *model.predictor.parameters()]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(learnt, theta, strict=True))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(model.target.parameters(), xi, strict=True))


# -- gradients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["moco", "byol"])
def test_dual_sends_the_gradient_through_the_second_branch_and_never_to_its_weights(algorithm):
    model, gradients = built(algorithm).freeze(True), {}
    for dual in (False, True):
        a, b = images(seed=1).requires_grad_(True), images(seed=2).requires_grad_(True)
        model.loss(a, b, dual=dual).backward()
        gradients[dual] = a.grad, b.grad
        assert all(weight.grad is None for weight in model.target.parameters())
    if algorithm == "moco":  # the key's view is seen by the target only
        assert gradients[False][1] is None and float(gradients[True][1].abs().max()) > 0
    else:
        assert not torch.allclose(gradients[False][1], gradients[True][1])


def test_the_value_of_the_loss_does_not_depend_on_where_its_gradient_goes():
    for algorithm in PUBLISHED:
        model = built(algorithm).freeze(True)
        assert float(model.loss(images(), images(seed=1))) == float(model.loss(images(), images(seed=1), dual=True))


@pytest.mark.parametrize("algorithm", list(PUBLISHED))
def test_every_learnt_weight_gets_a_gradient_and_a_frozen_one_none(algorithm):
    model = built(algorithm)
    assert len({id(weight) for weight in model.learnt()}) == len(model.learnt())
    model.loss(images(), images(seed=1)).backward()
    assert all(weight.grad is not None for weight in model.learnt())
    model.freeze(True)
    assert not any(weight.requires_grad for weight in model.parameters()) and not model.online.training
    model.freeze(False)
    assert all(weight.requires_grad for weight in model.learnt()) and model.training
    if algorithm != "simclr":
        assert not any(weight.requires_grad for weight in model.target.parameters())


# -- what moves when ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", list(PUBLISHED))
def test_a_frozen_loss_changes_nothing(algorithm):
    model = built(algorithm).freeze(True)
    before = digest(model)
    model.loss(images(), images(seed=1), dual=True)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_target_starts_equal_and_follows_by_its_average():
    model = built("byol")
    first = [weight.clone() for weight in model.target.parameters()]
    assert all(map(torch.equal, first, model.online.parameters()))
    with torch.no_grad():
        for weight in model.online.parameters():
            weight += 1.0
    model.advance(None)
    for was, slow in zip(first, model.target.parameters(), strict=True):
        assert torch.allclose(slow, was + 0.1, atol=1e-5)  # 0.9 of itself, 0.1 of what is 1 further


def test_the_queue_takes_the_newest_keys_round_and_round():
    model = built("moco")
    assert torch.allclose(model.queue.norm(dim=1), torch.ones(6))
    for number in (1.0, 2.0):  # 4 keys into 6 places, then 4 more
        model.advance(torch.full((4, 128), number))
    assert model.queue[:, 0].tolist() == [2.0, 2.0, 1.0, 1.0, 2.0, 2.0] and int(model.at) == 2
    model.advance(torch.arange(9.0)[:, None].expand(9, 128))  # more than there is room for: the last 6
    assert sorted(model.queue[:, 0].tolist()) == [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


def test_a_queue_holds_at_most_half_the_images():
    assert len(contrastive.build("moco", "small", 1, Settings(queue=4096), images=50).queue) == 25


@pytest.mark.parametrize("algorithm", list(PUBLISHED))
def test_training_lowers_the_loss_on_a_small_set_and_is_repeatable(algorithm):
    def trained():
        model, x = built(algorithm), images(16)
        optimiser, losses = contrastive.sgd(model, SETTINGS), []
        for step in range(16):
            optimiser.param_groups[0]["lr"] = 0.03
            pair = contrastive.pair(x, SETTINGS.views, torch.Generator().manual_seed(step))
            losses.append(contrastive.train_step(model, optimiser, *pair))
        return losses, digest(model)

    (losses, weights), (_, again) = trained(), trained()
    if algorithm != "moco":  # whose queue of 6 fills with harder keys than random ones
        assert sum(losses[-4:]) < sum(losses[:4])
    assert all(torch.equal(weights[name], again[name]) for name in weights)


# -- networks and rates ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "width"), [("small", 128), ("resnet18", 512)])
def test_the_encoder_is_the_classifier_without_its_last_layer(name, width):
    network = backbones.build(name, 3, seed=0).eval()
    head = network.fc if name == "resnet18" else network[-1]
    x = images(2)
    logits = network(x)
    encoder, features = contrastive.headless(network)
    assert features == width and torch.allclose(head(encoder(x)), logits, atol=1e-5)


def test_heads_have_the_published_shapes_in_proportion():
    shapes = {
        algorithm: [tuple(weight.shape) for weight in built(algorithm).online[1].parameters() if weight.dim() == 2]
        for algorithm in PUBLISHED
    }
    assert shapes["simclr"] == shapes["moco"] == [(128, 128), (128, 128)]
    assert shapes["byol"] == [(1024, 128), (256, 1024)]


def test_equal_seeds_give_equal_networks_and_the_encoder_is_the_same_for_all():
    one, two, other = built("moco"), built("moco"), built("moco", seed=2)
    assert all(torch.equal(value, digest(two)[name]) for name, value in digest(one).items())
    assert not torch.equal(one.queue, other.queue)
    assert torch.equal(built("simclr").features(images()), one.features(images()))


def test_features_are_those_of_evaluation_mode():
    model = built("simclr")
    x = images(4)
    features = model.features(x)
    assert features.shape == (4, 128) and features.dtype == torch.float32 and not features.requires_grad
    assert torch.allclose(model.features(x[:1]), features[:1], atol=1e-5)


def test_the_rate_is_the_published_one_at_512_images_and_falls_to_a_thousandth():
    recipe = Recipe(batch=512)
    assert [contrastive.rate(0, 100, name, recipe) for name in ("simclr", "moco", "byol")] == [0.5, 0.3, 1.0]
    assert contrastive.rate(0, 100, "simclr", Recipe(batch=128)) == 0.125
    # half way: (1 + 1/1000) / 2 of it; at the end 1/1000
    assert contrastive.rate(50, 100, "byol", recipe) == pytest.approx(0.5005)
    assert contrastive.rate(100, 100, "byol", recipe) == pytest.approx(0.001)
    assert contrastive.rate(0, 100, "byol", recipe, warmup=0.1) == pytest.approx(0.1)
