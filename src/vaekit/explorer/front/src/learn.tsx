// Learn: what each panel shows, with its equation and the numbers of this model in it.

import { useEffect, useState } from "preact/hooks";
import { ComponentChildren } from "preact";
import { Bound } from "./backend";
import { norm, text } from "./maths";
import { Model } from "./model";
import { nearest } from "./parts";
import { answers, context, row, tab, Tab, z } from "./state";

const M = ({ children }: { children: ComponentChildren }) => <math display="block"><mrow>{children}</mrow></math>;
const I = ({ v }: { v: string }) => <mi>{v}</mi>;
const O = ({ v }: { v: string }) => <mo>{v}</mo>;
const N = ({ v }: { v: string }) => <mn>{v}</mn>;
const Of = ({ f, of }: { f: string; of: string }) => <><I v={f} /><O v="(" />{of.split("|").map((part, i) => <>{i > 0 && <O v="|" />}<I v={part} /></>)}<O v=")" /></>;

export function LearnPanel({ model }: { model: Model }) {
  const picked = Math.min(row.value, model.rowCount - 1);
  const [bound, setBound] = useState<Bound | null>(null);
  useEffect(() => {
    let over = false;
    answers().bound(model.row(picked), 64, 0, model.contextOf(picked) ?? context.value).then((found) => !over && setBound(found), () => undefined);
    return () => { over = true; };
  }, [model, picked]);
  const i = model.facts.order[0], at = picked * model.latents + i;
  const mean = model.mean[at], scale = model.scale[at];
  const value = (v: number | null | undefined) => text(v, 4);
  return (
    <div class="main learn">
      <p class="lead">A variational autoencoder describes each row x by a code z. The numbers below are those of this model, for row {picked}.</p>
      <Card title="The encoder" to="reconstruct" link="Reconstruct a row">
        <p>It turns a row into a distribution over codes: for each dimension a mean and a standard deviation. The narrower it is, the more the row says about z.</p>
        <M><Of f="q" of="z|x" /><O v="=" /><I v="N" /><O v="(" /><I v="μ" /><O v="," /><msup><I v="σ" /><N v="2" /></msup><O v=")" /></M>
        <p class="numbers">z{i}: μ = {text(mean, 3)}, σ = {text(scale, 3)}</p>
      </Card>
      <Card title="The reparametrisation trick" to="reconstruct" link="See four draws">
        <p>To learn by gradients, a draw of z is written as a function of mean, standard deviation and noise that does not depend on them.</p>
        <M><I v="z" /><O v="=" /><I v="μ" /><O v="+" /><I v="σ" /><O v="·" /><I v="ε" /><O v="," /><mspace width="1em" /><I v="ε" /><O v="~" /><I v="N" /><O v="(" /><N v="0" /><O v="," /><N v="1" /><O v=")" /></M>
        <p class="numbers">with ε = 0.7: z{i} = {text(mean, 3)} + {text(scale, 3)} · 0.7 = {text(mean + 0.7 * scale, 3)}</p>
      </Card>
      <Card title="The decoder" to="sliders" link="Move z by its sliders">
        <p>It turns a code into a distribution over rows. What the panels show is the mean of that distribution.</p>
        <M><Of f="p" of="x|z" /></M>
        <p class="numbers">{bound?.log_likelihood == null ? "ln p(x|z) is not known here" : `ln p(x|z) = ${value(bound.log_likelihood)} nats, for z from q(z|x)`}</p>
      </Card>
      <Card title="The ELBO" to="health" link="See rate and distortion">
        <p>What is maximised: how well rows are decoded from their codes, less what it costs that the codes are not those of the prior. It is a lower bound on ln p(x).</p>
        <M><I v="ELBO" /><O v="=" /><msub><I v="E" /><I v="q" /></msub><O v="[" /><I v="ln" /><Of f="p" of="x|z" /><O v="]" /><O v="−" /><I v="KL" /><O v="(" /><I v="q" /><O v="‖" /><I v="p" /><O v=")" /></M>
        <p class="numbers">{bound?.elbo == null ? "not known here" : `${value(bound.log_likelihood)} − ${value(bound.kl)} = ${value(bound.log_likelihood! - bound.kl!)} nats; with 64 draws ${value(bound.elbo)} ± ${text(bound.error, 2)}`}</p>
      </Card>
      <Card title="The KL of a dimension" to="sliders" link="See the dimensions by KL">
        <p>How far the posterior of a dimension is from the prior. At 0 the dimension carries nothing: the decoder cannot use it.</p>
        <M><mfrac><N v="1" /><N v="2" /></mfrac><O v="(" /><msup><I v="μ" /><N v="2" /></msup><O v="+" /><msup><I v="σ" /><N v="2" /></msup><O v="−" /><N v="1" /><O v=")" /><O v="−" /><I v="ln" /><I v="σ" /></M>
        <p class="numbers">z{i}: {model.facts.prior === "standard" && model.facts.posterior === "gaussian" ? `${text(0.5 * (mean * mean + scale * scale - 1) - Math.log(scale), 3)} nats for this row` : "another prior or posterior has another formula"}{model.facts.kl && `; ${text(model.facts.kl[i], 3)} on average`}</p>
      </Card>
      <Card title="The map" to="map" link="Open the map">
        <p>Where the encoder puts the rows. Between them the decoder has seen little: what it makes of a code far from all others is a guess.</p>
        <M><I v="d" /><O v="=" /><munder><I v="min" /><I v="n" /></munder><msqrt><mfrac><N v="1" /><I v="D" /></mfrac><munder><O v="∑" /><I v="j" /></munder><msup><mrow><O v="(" /><mfrac><mrow><msub><I v="z" /><I v="j" /></msub><O v="−" /><msub><I v="μ" /><I v="nj" /></msub></mrow><msub><I v="σ" /><I v="nj" /></msub></mfrac><O v=")" /></mrow><N v="2" /></msup></msqrt></M>
        <p class="numbers">your z is at {text(nearest(model, z.value).distance, 3)} σ from the nearest code</p>
      </Card>
      <Card title="The manifold" to="manifold" link="Open the manifold">
        <p>A grid over two dimensions, spaced so that the prior puts equal probability between its lines, decoded place by place.</p>
        <M><msub><I v="z" /><I v="k" /></msub><O v="=" /><msup><I v="Φ" /><mrow><O v="−" /><N v="1" /></mrow></msup><O v="(" /><msub><I v="u" /><I v="k" /></msub><O v=")" /></M>
        <p class="numbers">from Φ⁻¹(0.02) = −2.05 to Φ⁻¹(0.98) = 2.05</p>
      </Card>
      <Card title="Interpolation" to="interpolate" link="Go from one row to another">
        <p>Codes between two codes. A straight line comes closer to 0 than codes of the prior do; a great circle keeps their length.</p>
        <M><msub><I v="z" /><I v="t" /></msub><O v="=" /><O v="(" /><N v="1" /><O v="−" /><I v="t" /><O v=")" /><msub><I v="z" /><N v="0" /></msub><O v="+" /><I v="t" /><msub><I v="z" /><N v="1" /></msub></M>
        <p class="numbers">‖z‖ of row {picked} is {text(norm(model.code(picked)), 3)}; of the prior about √{model.latents} = {text(Math.sqrt(model.latents), 3)}</p>
      </Card>
      <Card title="Arithmetic" to="arithmetic" link="Add a direction">
        <p>If rows of a kind lie together, the difference of two means is what makes one kind into the other, as far as the space is straight.</p>
        <M><msup><I v="z" /><O v="′" /></msup><O v="=" /><I v="z" /><O v="+" /><I v="s" /><O v="(" /><msub><mover><I v="μ" /><O v="¯" /></mover><I v="A" /></msub><O v="−" /><msub><mover><I v="μ" /><O v="¯" /></mover><I v="B" /></msub><O v=")" /></M>
      </Card>
    </div>
  );
}

function Card({ title, to, link, children }: { title: string; to: Tab; link: string; children: ComponentChildren }) {
  return <article class="card"><h2>{title}</h2>{children}<button type="button" class="linklike" onClick={() => { tab.value = to; }}>{link}</button></article>;
}
