// The workflows: a list, and one as a graph of its jobs.

import { useMemo, useState } from 'preact/hooks'
import { Graph, layout } from '@dagrejs/dagre'
import { may, post, useResource } from '../lib/api.js'
import { count, duration, seconds } from '../lib/format.js'
import { go, part, route, to } from '../lib/router.js'
import { Action, Badge, Code, Curl, Empty, Facts, FunctionLink, JobLink, Json, Page, Panel, Ready, TONES, Table, Time, act, confirm, html, now } from '../lib/ui.js'
import { Unreadable } from './queues.js'

const STATES = ['', 'running', 'finished', 'failed', 'canceled']
const MOST_NODES = 250 // more are listed, not drawn
const SEVERITY = ['failed', 'stopped', 'canceled', 'started', 'queued', 'scheduled', 'deferred', 'finished']
const EXAMPLE = '{"jobs": [{"name": "a", "function": "demo.add", "args": [1, 2]}, {"name": "b", "function": "demo.sleep", "args": [1], "after": ["a"]}]}'

export function Workflows() {
  const { query } = route.value, status = STATES.includes(query.get('status')) ? query.get('status') : '', name = query.get('name') ?? '', cursor = query.get('cursor')
  const found = useResource(to('/workflows', { status, name, cursor, limit: 50 }), { every: 10, gap: 1 })
  return html`<${Page} title="Workflows" actions=${html`<label class="unseen" for="workflow-name">Name</label><input id="workflow-name" data-search placeholder="Exact name" value=${name} onChange=${(event) => go(to('/workflows', { status, name: event.target.value.trim() }))}/>`}>
    <nav class="tabs" aria-label="States">${STATES.map((one) => html`<a key=${one} href=${to('/workflows', { status: one, name })} aria-current=${one === status ? 'true' : undefined}>${one || 'all'}</a>`)}</nav>
    <${Ready} of=${found}>${(data) => html`<${Unreadable} entries=${data.unreadable}/><${Panel} flush=${true}><${Table} label="Workflows" rows=${data.workflows} keyOf=${(flow) => flow.id}
      empty=${html`<${Empty} title=${status || name ? 'No workflow matches.' : 'There is no workflow yet.'}>${status || name ? null : html`<p>Submit a graph of jobs:</p><${Curl} path="/workflows" body=${EXAMPLE}/>`}</${Empty}>`}
      columns=${[
        { name: 'State', cell: (flow) => html`<${Badge} of=${flow.status}/>` },
        { name: 'Workflow', class: 'wide', cell: (flow) => html`<a class="strong" href=${`/workflows/${part(flow.id)}`}>${flow.name ?? 'without a name'}</a><p class="sub mono">${flow.id}</p>` },
        { name: 'Jobs', cell: (flow) => html`<${Share} counts=${flow.counts}/>` },
        { name: 'Took', number: true, cell: (flow) => duration(seconds(flow.created_at, flow.ended_at)) },
        { name: 'Created', number: true, cell: (flow) => html`<${Time} at=${flow.created_at} relative=${true}/>` },
      ]}/></${Panel}><nav class="pager" aria-label="More workflows">${cursor ? html`<a class="button" href=${to('/workflows', { status, name })}>Newest</a>` : null}<span class="muted">${data.workflows.length ? `${data.workflows.length} shown` : null}</span>${data.next_cursor ? html`<a class="button" href=${to('/workflows', { status, name, cursor: data.next_cursor })}>Older</a>` : null}</nav>`}</${Ready}></${Page}>`
}

function Share({ counts }) {
  const { total } = counts, ended = counts.finished + counts.failed + counts.stopped + counts.canceled
  return html`<span class="share"><span class="share-bar" aria-hidden="true">${[['finished', 'good'], ['failed', 'bad'], ['stopped', 'warn'], ['canceled', 'faint']].map(([state, tone]) => counts[state] ? html`<i class=${`f-${tone}`} style=${{ width: `${(100 * counts[state]) / total}%` }}></i>` : null)}</span>
    <span>${count(ended)} of ${count(total)}${counts.failed ? html`, <span class="bad">${count(counts.failed)} failed</span>` : null}</span></span>`
}

export function WorkflowPage({ name: id }) {
  const found = useResource(`/workflows/${part(id)}`, { every: 10, gap: 1, live: (change) => change.ids?.some((job) => job.startsWith(`${id}-`)) })
  const flow = found.data, url = `/workflows/${part(id)}`
  const [picked, setPicked] = useState(null)
  return html`<${Page} kicker=${html`<a href="/workflows">Workflows</a>`} title=${flow?.name ?? 'Workflow'} lead=${html`<span class="mono">${id}</span>`}
      actions=${flow?.status === 'running' && may('enqueue') && html`<button class="danger" onClick=${() => confirm({ title: 'Cancel the workflow', text: html`<p>Jobs that did not start are canceled, and running ones are stopped.</p>`, label: 'Cancel it', run: () => act(post(`${url}/cancel`), 'Canceled') })}>Cancel…</button>`}>
    <${Ready} of=${found} missing=${html`<${Empty} title="There is no such workflow."><p><a href="/workflows">All workflows</a></p></${Empty}>`}>${(data) => html`<${Contents} ...${{ data, picked, setPicked }}/>`}</${Ready}></${Page}>`
}

function Contents({ data, picked, setPicked }) {
  const nodes = useMemo(() => group(data.jobs), [data.jobs])
  const rows = picked ? nodes.get(picked)?.jobs ?? data.jobs : data.jobs
  return html`<${Panel}><div class="state"><${Badge} of=${data.status}/><${Share} counts=${data.counts}/><span class="muted">created <${Time} at=${data.created_at}/>${data.ended_at ? html`, ended <${Time} at=${data.ended_at}/>, took ${duration(seconds(data.created_at, data.ended_at))}` : html`, runs for ${duration(Math.max(0, Math.round((now.value - Date.parse(data.created_at)) / 1000)))}`}</span></div></${Panel}>
    ${nodes.size > MOST_NODES ? html`<p class="muted">${count(nodes.size)} nodes are too many to draw.</p>` : html`<${Panel} title="Graph" side=${picked && html`<button class="small" onClick=${() => setPicked(null)}>All jobs</button>`}><${Drawing} ...${{ nodes, picked, setPicked }}/></${Panel}>`}
    <${Panel} title=${picked ? `Jobs of ${picked}` : 'Jobs'} flush=${true} side=${html`<span class="muted">${count(rows.length)}</span>`}><${Table} label="Jobs of the workflow" rows=${rows.slice(0, 500)} keyOf=${(job) => job.id} columns=${[
      { name: 'State', sort: (job) => SEVERITY.indexOf(job.status), cell: (job) => html`<${Badge} of=${job.status}/>` }, { name: 'Name', sort: (job) => job.name, cell: (job) => html`<a href=${`/jobs/${part(job.id)}`}>${job.name}</a>` },
      { name: 'Function', cell: (job) => html`<${FunctionLink} name=${job.function}/>` }, { name: 'After', class: 'wide', cell: (job) => html`<span class="clip">${job.after.map((need) => need.name + (need.even_if_failed ? ' (even if failed)' : '')).join(', ')}</span>` },
      { name: 'Outcome', class: 'wide', cell: (job) => (job.error ? html`<span class="clip bad">${job.error.type}: ${job.error.message}</span>` : job.result !== null ? html`<${Short} value=${job.result}/>` : '') }]}/>${rows.length > 500 ? html`<p class="muted pad">The first 500 of ${count(rows.length)}.</p>` : null}</${Panel}>`
}

const Short = ({ value }) => html`<details class="figures inline"><summary>Result</summary><${Json} value=${value} label="Result"/></details>`

/** The nodes by name: the jobs of a node with `each` are named NODE[0], NODE[1], ... */
function group(jobs) {
  const nodes = new Map()
  for (const job of jobs) {
    const name = job.name.replace(/\[\d+\]$/, '')
    const node = nodes.get(name) ?? { name, jobs: [], after: job.after, function: job.function }
    node.jobs.push(job)
    nodes.set(name, node)
  }
  return nodes
}

function Drawing({ nodes, picked, setPicked }) {
  const shape = JSON.stringify([...nodes.values()].map((node) => [node.name, node.jobs.length, node.after]))
  const graph = useMemo(() => {
    const made = new Graph()
    made.setGraph({ rankdir: 'LR', nodesep: 14, ranksep: 44, marginx: 4, marginy: 4 })
    made.setDefaultEdgeLabel(() => ({}))
    for (const node of nodes.values()) made.setNode(node.name, { width: Math.min(240, Math.max(120, 7.2 * Math.max(node.name.length + 5, node.function.length + 11) + 24)), height: 44 })
    for (const node of nodes.values()) for (const need of node.after) if (nodes.has(need.name)) made.setEdge(need.name, node.name, { soft: need.even_if_failed })
    layout(made)
    return made
  }, [shape])
  const { width = 0, height = 0 } = graph.graph()
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Graph of the workflow"><svg class="graph" width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`} role="group" aria-label="Jobs and what they wait for">
    <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path d="M0 0L8 4L0 8z"/></marker></defs>
    ${graph.edges().map((edge) => html`<path key=${`${edge.v} ${edge.w}`} class=${graph.edge(edge).soft ? 'edge soft' : 'edge'} marker-end="url(#arrow)" d=${curve(graph, edge)}/>`)}
    ${graph.nodes().map((name) => html`<${Node} key=${name} node=${nodes.get(name)} at=${graph.node(name)} picked=${picked === name} pick=${() => { const node = nodes.get(name); node.jobs.length === 1 ? go(`/jobs/${part(node.jobs[0].id)}`) : setPicked(picked === name ? null : name) }}/>`)}</svg></div>`
}

/** An edge from the right of a node to the left of another, by the points between them, level at each. */
function curve(graph, edge) {
  const from = graph.node(edge.v), until = graph.node(edge.w), { points } = graph.edge(edge)
  const way = [{ x: from.x + from.width / 2, y: from.y }, ...(points.length > 3 ? points.slice(1, -1) : []), { x: until.x - until.width / 2 - 1, y: until.y }]
  return way.map((point, index) => {
    if (!index) return `M${point.x} ${point.y}`
    const before = way[index - 1], middle = (before.x + point.x) / 2
    return `C${middle} ${before.y} ${middle} ${point.y} ${point.x} ${point.y}`
  }).join('')
}

function Node({ node, at, picked, pick }) {
  const counts = {}
  for (const job of node.jobs) counts[job.status] = (counts[job.status] ?? 0) + 1
  const worst = SEVERITY.find((state) => counts[state]), many = node.jobs.length > 1
  const fit = (text) => (text.length > 28 ? `${text.slice(0, 27)}…` : text)
  const first = fit(node.name) + (many ? ` × ${node.jobs.length}` : '')
  const second = fit(many ? Object.entries(counts).map(([state, number]) => `${number} ${state}`).join(', ') : `${worst} · ${node.function}`)
  const press = (event) => { if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); pick() } }
  return html`<g class=${`node t-${TONES[worst] ?? 'plain'} s-${worst} ${picked ? 'picked' : ''}`} transform=${`translate(${at.x - at.width / 2} ${at.y - at.height / 2})`} tabindex="0" role=${many ? 'button' : 'link'} onClick=${pick} onKeyDown=${press}>
    <rect width=${at.width} height=${at.height} rx="6"/><rect class="mark" width="4" height=${at.height} rx="2"/>
    <text x="14" y="19" class="node-name">${first}</text><text x="14" y="35" class="node-function">${second}</text></g>`
}
