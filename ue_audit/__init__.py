"""ue-audit: how much of an image protection survives a determined attacker?

Five stages chain over image folders; each is one module with `run(settings) -> Path` and writes a manifest:

    clean ──protect──▶ protected ──purify──▶ purified ──evaluate──▶ accuracies ──report──▶ verdict
                         raw ──train_prior──▶ prior ──▲

The map
    settings, tool_settings, quantities, spelling   what each command is asked for, and as words to paste
    cli, options, commands, doctor  the commands; with screen and failures the only place that prints or exits
    audit, chain, priors, standing  an audit as one file, its stages in order, their priors, and how far they are
    protect … report                the stages: open inputs, load a method, compute, measure, write, seal
    ranks, together                 torchrun: which process this is, and what several do of one stage
    sharing, gathering, merge       `purify --shard`: the parts of one set, which belong together, and the whole of them
    protections/ purifiers/ learners/   the methods, one file each; `methods` is their registry and contract
    diffusion/  training/           the prior and its sampler; networks, loops and attacks that methods share
    split, placing, splitting       `split`: disjoint parts of what candidates, torchsets, hubsets and parquetsets find
    export, cards                   `export`: a set as others load it, and what it says of itself
    adopt, pairing                  `import`: a set protected elsewhere, paired with its originals
    import_prior                    `import-prior`: a diffusion model of other code becomes a prior
    tensors, torchfile, pickles, header   foreign files of weights, read as data before they are loaded
    bench, benches/                 how fast every stage is, beside plain recipes; decides no result
    detect, detection               is a set protected at all? probes without originals or training
    examination, lineup, cells      what an evaluation trains and tests on, and who trains
    trainings, crew                 the trainings, and who does them
    agenda, earlier                 which training comes first, where a time budget ends; what is trained already
    additions, sitting              where seeds are added, and why; what one sitting trains
    contests, findings, verdict     who stands against whom, what came of it, and what that means in words
    plainly                         the same for readers who do not know the field, and the words of the report
    thresholds                      every bound that a verdict is decided by
    honesty                         what would make the verdict false, each question answered
    overlaps, lookalikes            what the sets share: exact copies and near ones
    outlay, prices                  what each attacker laid out, and who is worth the price
    published, comparable, beside   published figures, which of them are comparable, and an audit's own beside them
    facts, background, evidence, samples   what a report reads: records and lineage, budgets, fidelity, the images shown
    composing, attestation          what report.json holds; the same as an in-toto test result
    uncertainty                     where the doubt comes from: test images, training seeds, purification
    compare, counterparts, differences   two audits side by side
    change, traits, selection       a change in whole levels, what it is like, which images get one
    distances, scores               per-image distances; accuracies, intervals, recovery, survival, grade
    imagefolder, shards, manifest   the floor: pixels and files, atomic work with resume, manifests and lineage; below
                                    them scanning, decoding, imagedata; storage, journal, filework; statement, digests
    config, settings, tools, errors, progress
    names, systems                  file names; what Linux, macOS and Windows do differently

Glossary, the same in code, presets, manifests and reports
    x, x_ue, x_le     clean, protected ("unlearnable example"), purified ("learnable example") images
    delta             x_ue - x;  eps: its budget, never diffusion noise
    t                 diffusion time 1..T;  alpha_bar(t), x_t, pred_noise: as in the papers
    t_purify (T_p)    the time a pass starts from;  passes (N);  pixel_pull, perceptual_scale (lambda_1, lambda_2)
    prior             the diffusion model an attacker trained on raw, unprotected images
    C, V, P           accuracy on clean test images after training on clean, protected, purified images
    recovery RR       (P - V) / (C - V): 0 the protection holds, 1 it is undone
    survival S        1 - RR of the best countermeasure tried, chosen on validation images
    victim            a learner that takes images as they come;  countermeasure: a purifier, or a hardened learner
    ceiling           a countermeasure applied to clean images;  noise control: clean + random noise of the same norm
    N B C H W K       images, batch, channels, height, width, classes
"""

__version__ = "0.1.0"
