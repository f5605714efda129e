// The audit log: who changed what.

import { useResource } from '../lib/api.js'
import { stringify } from '../lib/json.js'
import { go, route, to } from '../lib/router.js'
import { asParameters } from '../lib/query.js'
import { Empty, Page, Panel, Ready, Table, Time, html } from '../lib/ui.js'
import { Unreadable } from './queues.js'

const AGES = ['', '1h', '24h', '7d']

export function Audit() {
  const { query } = route.value, filter = { actor: query.get('actor') ?? '', action: query.get('action') ?? '', since: query.get('since') ?? '' }, cursor = query.get('cursor')
  const found = useResource(to('/audit', { ...asParameters(filter), cursor, limit: 100 }), { every: 15, gap: 3 })
  const set = (change) => go(to('/audit', { ...filter, ...change }))
  const link = (name, value) => html`<a class="quiet" href=${to('/audit', { ...filter, [name]: value })}>${value}</a>`
  return html`<${Page} title="Audit" lead="Who changed what" actions=${html`
      <label class="unseen" for="audit-actor">Key</label><input id="audit-actor" placeholder="key" value=${filter.actor} onChange=${(event) => set({ actor: event.target.value.trim() })}/>
      <label class="unseen" for="audit-action">Action</label><input id="audit-action" data-search placeholder="action, such as jobs.requeue" value=${filter.action} onChange=${(event) => set({ action: event.target.value.trim() })}/>
      <span class="segments" role="group" aria-label="Since">${AGES.map((age) => html`<button aria-pressed=${age === filter.since} onClick=${() => set({ since: age })}>${age || 'all'}</button>`)}</span>`}>
    <${Ready} of=${found}>${(data) => html`<${Unreadable} entries=${data.unreadable}/><${Panel} flush=${true}><${Table} label="Audit" rows=${data.entries} keyOf=${(entry) => entry.id}
      empty=${html`<${Empty} title="No entry matches."><p>Whatever changes something is written here; enqueues of one job only with <code>AUDIT=all</code>.</p></${Empty}>`}
      columns=${[
        { name: 'When', cell: (entry) => html`<${Time} at=${entry.at}/>` }, { name: 'Key', cell: (entry) => link('actor', entry.actor) }, { name: 'Action', cell: (entry) => link('action', entry.action) },
        { name: 'Target', class: 'wide', cell: (entry) => html`<span class="mono clip">${entry.target}</span>` }, { name: 'Details', class: 'wide', cell: (entry) => (Object.keys(entry.details).length ? html`<span class="mono clip">${stringify(entry.details)}</span>` : '') },
        { name: 'Status', number: true, cell: (entry) => html`<span class=${entry.status >= 400 ? 'bad' : ''}>${String(entry.status)}</span>` }, { name: 'Address', cell: (entry) => entry.address },
      ]}/></${Panel}><nav class="pager" aria-label="More entries">${cursor ? html`<a class="button" href=${to('/audit', filter)}>Newest</a>` : null}<span class="muted">${data.entries.length ? `${data.entries.length} shown` : null}</span>${data.next_cursor ? html`<a class="button" href=${to('/audit', { ...filter, cursor: data.next_cursor })}>Older</a>` : null}</nav>`}</${Ready}></${Page}>`
}
