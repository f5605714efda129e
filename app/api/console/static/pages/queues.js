// The queues, with pause, resume and empty.

import { may, post, useResource } from '../lib/api.js'
import { count } from '../lib/format.js'
import { part, to } from '../lib/router.js'
import { Action, Badge, Curl, Empty, Page, Panel, Ready, Table, act, confirm, html, say } from '../lib/ui.js'
import { Oldest } from './overview.js'

const STATES = [['queued', 'Waiting'], ['started', 'Running'], ['scheduled', 'Delayed'], ['deferred', 'Deferred'], ['failed', 'Failed'], ['finished', 'Finished'], ['canceled', 'Canceled']]

export function Queues() {
  const queues = useResource('/queues', { every: 10 }), workers = useResource('/workers', { every: 10, gap: 3 })
  const serving = (name) => (workers.data?.workers ?? []).filter((worker) => worker.queues.includes(name)).length
  return html`<${Page} title="Queues"><${Ready} of=${queues}>${(data) => html`
    <${Unreadable} entries=${data.unreadable}/>
    <${Panel} flush=${true}><${Table} label="Queues" rows=${data.queues} keyOf=${(queue) => queue.name} initial=${{ name: 'Queue', down: false }}
      empty=${html`<${Empty} title="There is no queue yet."><p>A queue comes into being with its first job:</p><${Curl}/></${Empty}>`}
      columns=${[
        { name: 'Queue', sort: (queue) => queue.name, cell: (queue) => html`<a class="strong" href=${to('/jobs', { queue: queue.name })}>${queue.name}</a> ${queue.paused ? html`<${Badge} of="paused"/>` : null}
          ${(queue.warnings ?? []).map((text) => html`<p class="sub bad">${text}</p>`)}` },
        ...STATES.map(([state, label]) => ({ name: label, number: true, sort: (queue) => queue.counts[state], cell: (queue) => (queue.counts[state] ? html`<a class=${state === 'failed' ? 'bad' : 'quiet'} href=${to('/jobs', { queue: queue.name, status: state })}>${count(queue.counts[state])}</a>` : html`<span class="faint">0</span>`) })),
        { name: 'Oldest waits', number: true, cell: (queue) => html`<${Oldest} queue=${queue}/>` },
        { name: 'Workers', number: true, sort: (queue) => serving(queue.name), cell: (queue) => count(serving(queue.name)) },
        { name: 'Actions', hidden: true, cell: (queue) => may('admin') && html`<${QueueActions} queue=${queue}/>` },
      ]}/></${Panel}>`}</${Ready}></${Page}>`
}

function QueueActions({ queue: { name, paused, counts } }) {
  const url = `/queues/${part(name)}`
  const empty = async () => {
    const { deleted } = await post(`${url}/empty`)
    say(`${count(deleted)} jobs of ${name} were deleted`)
  }
  return html`<span class="row-actions">${paused ? html`<${Action} kind="small" run=${() => act(post(`${url}/resume`), `${name} runs jobs again`)}>Resume</${Action}>` : html`<${Action} kind="small" run=${() => act(post(`${url}/pause`), `${name} is paused`)}>Pause</${Action}>`}
    <button class="small" disabled=${!counts.queued} onClick=${() => confirm({ title: `Empty ${name}`, text: html`<p>The ${count(counts.queued)} jobs that wait in this queue are deleted. Delayed and running ones stay.</p>`, label: 'Empty', typed: name, run: empty })}>Empty…</button></span>`
}

export const Unreadable = ({ entries }) => (entries?.length ? html`<div class="notice warn"><p>Entries that cannot be read:</p><ul>${entries.map((one) => html`<li><code>${one.name ?? one.id}</code> ${one.reason}</li>`)}</ul></div>` : null)
