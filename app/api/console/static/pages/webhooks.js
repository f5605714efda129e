// Deliveries of webhooks, which are jobs, and URLs that get none.

import { may, post, send, useResource } from '../lib/api.js'
import { duration } from '../lib/format.js'
import { go, part, route, to } from '../lib/router.js'
import { Action, Badge, Empty, JobLink, Page, Panel, Ready, Table, Time, act, html } from '../lib/ui.js'
import { openBulk } from '../lib/bulk.js'

const DELIVER = 'webhooks.deliver'
const STATES = ['', 'queued', 'scheduled', 'failed', 'finished']

function parts(job) {
  const [url, message] = [...job.args, job.kwargs.url, job.kwargs.message].filter((value) => value !== undefined)
  return { url: String(url ?? '–'), type: message?.type ?? '–', about: message?.data ?? {} }
}

export function Webhooks() {
  const asked = route.value.query.get('status') ?? '', status = STATES.includes(asked) ? asked : ''
  const cursor = route.value.query.get('cursor')
  const deliveries = useResource(to('/jobs', { function: DELIVER, queue: 'webhooks', status, cursor, limit: 50 }), { every: 10, gap: 2, live: (change) => change.queues?.includes('webhooks') })
  const disabled = useResource('/webhooks/disabled', { every: 30, live: () => false })
  return html`<${Page} title="Webhooks" actions=${may('enqueue') && html`<button onClick=${() => openBulk('requeue', { function: DELIVER, status: 'failed' }, 'failed deliveries')}>Replay failed…</button>`}>
    <${Ready} of=${disabled}>${(data) => (data.disabled.length ? html`<${Panel} title="Disabled URLs" flush=${true}><p class="pad muted">They answered 410 Gone. Nothing is delivered to them.</p><${Table} label="Disabled URLs" rows=${data.disabled} keyOf=${(one) => one.url} columns=${[
      { name: 'URL', class: 'wide', cell: (one) => html`<span class="mono">${one.url}</span>` }, { name: 'Since', cell: (one) => html`<${Time} at=${one.since}/>` },
      { name: 'Actions', hidden: true, cell: (one) => may('admin') && html`<${Action} kind="small" run=${() => act(send('DELETE', `/webhooks/disabled?url=${encodeURIComponent(one.url)}`), 'The URL is enabled again')}>Enable</${Action}>` }]}/></${Panel}>` : null)}</${Ready}>
    <nav class="tabs" aria-label="States">${STATES.map((one) => html`<a key=${one} href=${to('/webhooks', { status: one })} aria-current=${one === status ? 'true' : undefined}>${one || 'all'}</a>`)}</nav>
    <${Ready} of=${deliveries}>${(data) => html`<${Panel} flush=${true}><${Table} label="Deliveries" rows=${data.jobs} keyOf=${(job) => job.id}
      empty=${html`<${Empty} title=${status ? 'No delivery is in this state.' : 'Nothing was delivered yet.'}><p>Give a job a webhook: <code>"webhook": {"url": "https://example.com/hook"}</code> in the body of <code>POST /jobs</code>.</p></${Empty}>`}
      columns=${[
        { name: 'State', cell: (job) => html`<${Badge} of=${job.status}/>` },
        { name: 'Event', cell: (job) => html`<span class="mono">${String(parts(job).type)}</span>` },
        { name: 'URL', class: 'wide', cell: (job) => html`<span class="clip mono">${parts(job).url}</span><p class="sub"><${JobLink} id=${job.id}/></p>` },
        { name: 'About', cell: (job) => { const { id, jobs } = parts(job).about; return typeof id === 'string' ? html`<a class="mono clip-id" href=${`/${jobs ? 'workflows' : 'jobs'}/${part(id)}`}>${id}</a>` : '–' } },
        { name: 'Attempts', number: true, cell: (job) => String(job.attempts) },
        { name: 'Answer', class: 'wide', cell: (job) => (job.result ? `${job.result.status} in ${duration(job.result.seconds)}` : html`<span class="clip">${job.error?.message ?? ''}</span>`) },
        { name: 'Next', cell: (job) => (job.scheduled_for ? html`<${Time} at=${job.scheduled_for}/>` : '') },
        { name: 'Actions', hidden: true, cell: (job) => may('enqueue') && ['failed', 'stopped', 'canceled'].includes(job.status) && html`<${Action} kind="small" run=${() => act(post(`/jobs/${part(job.id)}/requeue`), 'It is delivered again')}>Replay</${Action}>` },
      ]}/></${Panel}><nav class="pager" aria-label="More deliveries">${cursor ? html`<a class="button" href=${to('/webhooks', { status })}>Newest</a>` : null}<span class="muted">${data.jobs.length ? `${data.jobs.length} shown` : null}</span>${data.next_cursor ? html`<a class="button" href=${to('/webhooks', { status, cursor: data.next_cursor })}>Older</a>` : null}</nav>`}</${Ready}></${Page}>`
}
