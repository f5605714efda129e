// Forms made from the JSON Schema of a function's arguments. What no field fits is given as JSON.

import { useEffect, useId, useRef, useState } from 'preact/hooks'
import { html } from './ui.js'
import { Exact, integer, parse, stringify } from './json.js'

const EMAIL = /^[^@\s]+@[^@\s]+\.[^@\s]+$/
const DATE = /^\d{4}-\d\d-\d\d$/
const DATE_TIME = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?$/i
const NUMBER = /^-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i

/** A text that is no value of its field's type, and why. */
class Wrong {
  constructor(text, message) { Object.assign(this, { text, message }) }
}

function resolve(schema, root) {
  let found = schema ?? {}
  for (let depth = 0; depth < 20; depth++) {
    if (found.$ref?.startsWith('#/')) {
      const target = found.$ref.slice(2).split('/').reduce((at, name) => at?.[name.replace(/~1/g, '/').replace(/~0/g, '~')], root)
      found = { ...target, ...found, $ref: undefined }
    } else if (found.allOf?.length === 1) found = { ...found.allOf[0], ...found, allOf: undefined }
    else break
  }
  const options = found.anyOf ?? found.oneOf
  if (!options) return { schema: found, nullable: found.type === 'null' }
  const kept = options.map((option) => resolve(option, root).schema).filter((option) => option.type !== 'null')
  const nullable = kept.length < options.length
  const rest = { ...found, anyOf: undefined, oneOf: undefined }
  if (kept.length === 1) return { schema: { ...kept[0], ...rest, type: kept[0].type }, nullable }
  return { schema: { ...rest, variants: kept }, nullable }
}

const nameOf = (schema) => schema.title && schema.type === 'object' ? schema.title
  : schema.type === 'array' ? 'list' : schema.type === 'object' ? 'object' : schema.format ?? schema.type ?? 'JSON'

/** The errors of a value: {pointer, message}, in order. */
export function errorsOf(value, given, root = given, pointer = '', required = true) {
  const { schema, nullable } = resolve(given, root)
  const wrong = (message) => [{ pointer, message }]
  if (value instanceof Wrong) return wrong(value.message)
  if (value === undefined) return required ? wrong('is required') : []
  if (value === null) return nullable || !schema.type ? [] : wrong('is required')
  if (schema.variants) {
    const results = schema.variants.map((variant) => errorsOf(value, variant, root, pointer))
    return results.reduce((best, errors) => (errors.length < best.length ? errors : best))
  }
  if (schema.enum && !schema.enum.some((one) => stringify(one) === stringify(value))) return wrong('is none of the choices')
  switch (schema.type) {
    case 'string': return typeof value === 'string' ? problemsOf(value, schema).flatMap(wrong) : wrong('must be text')
    case 'integer': case 'number': {
      if (typeof value !== 'number' && !(value instanceof Exact)) return wrong('must be a number')
      const number = Number(value)
      if (schema.type === 'integer' && !/^-?\d+(\.0+)?$/.test(String(value))) return wrong('must be an integer')
      if (schema.minimum !== undefined && number < schema.minimum) return wrong(`must be at least ${schema.minimum}`)
      if (schema.maximum !== undefined && number > schema.maximum) return wrong(`must be at most ${schema.maximum}`)
      if (schema.exclusiveMinimum !== undefined && number <= schema.exclusiveMinimum) return wrong(`must be more than ${schema.exclusiveMinimum}`)
      if (schema.exclusiveMaximum !== undefined && number >= schema.exclusiveMaximum) return wrong(`must be less than ${schema.exclusiveMaximum}`)
      return []
    }
    case 'boolean': return typeof value === 'boolean' ? [] : wrong('must be true or false')
    case 'array': {
      if (!Array.isArray(value)) return wrong('must be a list')
      if (schema.minItems > value.length) return wrong(`must have at least ${schema.minItems}`)
      if (schema.maxItems < value.length) return wrong(`must have at most ${schema.maxItems}`)
      return value.flatMap((item, index) => errorsOf(item, schema.prefixItems?.[index] ?? schema.items ?? {}, root, `${pointer}/${index}`))
    }
    case 'object': {
      if (typeof value !== 'object' || Array.isArray(value) || value instanceof Exact) return wrong('must be an object')
      const known = schema.properties ?? {}
      const inside = Object.entries(known).flatMap(([name, one]) =>
        errorsOf(value[name], one, root, `${pointer}/${name}`, schema.required?.includes(name) ?? false))
      const others = Object.keys(value).filter((name) => !(name in known))
      if (schema.additionalProperties === false) {
        return [...inside, ...others.map((name) => ({ pointer: `${pointer}/${name}`, message: 'is not an argument' }))]
      }
      const rest = typeof schema.additionalProperties === 'object' ? schema.additionalProperties : {}
      return [...inside, ...others.flatMap((name) => errorsOf(value[name], rest, root, `${pointer}/${name}`))]
    }
    default: return []
  }
}

function problemsOf(text, schema) {
  const found = [], length = [...text].length
  if (schema.minLength > length) found.push(schema.minLength === 1 ? 'is required' : `must have at least ${schema.minLength} characters`)
  if (schema.maxLength < length) found.push(`must have at most ${schema.maxLength} characters`)
  if (schema.format === 'email' && !EMAIL.test(text)) found.push('is no email address')
  if (schema.format === 'date' && !(DATE.test(text) && Date.parse(text))) found.push('is no date, such as 2026-12-31')
  if (schema.format === 'date-time' && !(DATE_TIME.test(text) && Date.parse(text))) found.push('is no time, such as 2026-12-31T08:00:00Z')
  if (schema.format === 'uri' && !URL.canParse(text)) found.push('is no URL')
  if (schema.pattern && safeTest(schema.pattern, text)) found.push(`does not match ${schema.pattern}`)
  return found.slice(0, 1)
}

function safeTest(pattern, text) {
  try { return !new RegExp(pattern, 'u').test(text) } catch { return false }
}

/** The value to begin with: nothing, except where a value is required and has only one form. */
export function initialValue(given, root = given) {
  const { schema } = resolve(given, root)
  if (schema.type === 'object' && schema.properties) {
    const value = {}
    for (const name of schema.required ?? []) {
      const start = initialValue(schema.properties[name], root)
      if (start !== undefined) value[name] = start
    }
    return value
  }
  if (schema.type === 'array') return Array.from({ length: schema.minItems ?? 0 }, () => initialValue(schema.items ?? {}, root))
  if (schema.type === 'object') return {}
  if (schema.const !== undefined) return schema.const
  if (schema.type === 'boolean') return false
  return undefined
}

/** Arguments of a call, with raw JSON as the way out. Calls `onChange(value, errors)`. */
export function ArgumentsForm({ schema, value, onChange, problems = [] }) {
  const fits = errorsOf(value ?? {}, schema).every((error) => error.message === 'is required')
  const [raw, setRaw] = useState(!fits || !Object.keys(schema.properties ?? {}).length && schema.additionalProperties !== false)
  const [draft, setDraft] = useState(value)
  const change = (next) => { setDraft(next); onChange(next, errorsOf(next, schema)) }
  useEffect(() => onChange(draft, errorsOf(draft, schema)), [])
  const toggle = () => {
    if (raw && draft instanceof Wrong) return
    setRaw(!raw)
  }
  const local = new Map(errorsOf(draft, schema).map(({ pointer, message }) => [pointer, message]))
  const remote = new Map(problems.map(({ pointer, detail }) => [pointer.replace(/^#/, ''), detail]))
  const messages = (pointer) => remote.get(pointer) ?? local.get(pointer)
  return html`<div class="form">
    <div class="form-switch"><button type="button" class="small" aria-pressed=${raw} disabled=${raw && draft instanceof Wrong} onClick=${toggle}>${raw ? 'Fields' : 'JSON'}</button></div>
    ${raw ? html`<${JsonField} label="Arguments as JSON" value=${draft} onChange=${change} rows=${8} message=${draft instanceof Wrong ? draft.message
      : [...remote.values(), ...[...local].map(([pointer, message]) => `${pointer.slice(1)} ${message}`)][0]}/>`
      : Object.keys(schema.properties ?? {}).length || schema.additionalProperties !== false
        ? html`<${ObjectFields} schema=${schema} root=${schema} value=${draft} onChange=${change} pointer="" messages=${messages}/>`
        : html`<p class="muted">This function has no arguments.</p>`}</div>`
}

function ObjectFields({ schema, root, value, onChange, pointer, messages }) {
  const names = Object.keys(schema.properties ?? {})
  const set = (name, next) => {
    const changed = { ...value }
    if (next === undefined) delete changed[name]
    else changed[name] = next
    onChange(changed)
  }
  const extra = Object.keys(value ?? {}).filter((name) => !names.includes(name))
  return html`${names.map((name) => html`<${Field} key=${name} label=${name} schema=${schema.properties[name]} root=${root} value=${value?.[name]}
      required=${schema.required?.includes(name) ?? false} onChange=${(next) => set(name, next)} pointer=${`${pointer}/${name}`} messages=${messages}/>`)}
    ${schema.additionalProperties !== false && (!names.length || typeof schema.additionalProperties === 'object' || extra.length)
      ? html`<${MapFields} schema=${typeof schema.additionalProperties === 'object' ? schema.additionalProperties : {}} root=${root} names=${extra}
        value=${value ?? {}} onChange=${onChange} pointer=${pointer} messages=${messages}/>` : null}`
}

function MapFields({ schema, root, names, value, onChange, pointer, messages }) {
  const [name, setName] = useState(''), id = useId()
  const add = () => {
    if (!name || name in value) return
    onChange({ ...value, [name]: initialValue(schema, root) ?? (resolve(schema, root).schema.type === 'string' ? '' : undefined) ?? null })
    setName('')
  }
  return html`${names.map((one) => html`<div class="item" key=${one}><${Field} label=${one} schema=${schema} root=${root} value=${value[one]} required=${true}
      onChange=${(next) => onChange({ ...value, [one]: next })} pointer=${`${pointer}/${one}`} messages=${messages}/>
    <button type="button" class="small" aria-label=${`Remove ${one}`} onClick=${() => { const { [one]: _, ...rest } = value; onChange(rest) }}>✕</button></div>`)}
    <div class="item"><label class="unseen" for=${id}>New name</label><input id=${id} placeholder="name" value=${name} onInput=${(event) => setName(event.target.value)}/>
    <button type="button" class="small" onClick=${add} disabled=${!name}>Add</button></div>`
}

function Field({ label, schema: given, root, value, required, onChange, pointer, messages }) {
  const { schema, nullable } = resolve(given, root)
  const id = useId(), [touched, setTouched] = useState(false)
  const message = messages(pointer)
  const shown = message && (touched || value !== undefined || message !== 'is required')
  const hint = [schema.description, schema.default !== undefined && schema.default !== null && `default: ${stringify(schema.default)}`].filter(Boolean).join(' · ')
  const attributes = { id, required, 'aria-invalid': Boolean(shown), 'aria-describedby': `${id}-about` }
  const kind = schema.variants ? schema.variants.map(nameOf).join(' or ') : nameOf(schema)
  const leave = () => setTouched(true)
  const about = html`<p id=${`${id}-about`} class=${shown ? 'about wrong' : 'about'}>${shown ? message : hint}</p>`
  const head = html`<span>${label}${required ? html`<span class="faint" title="required"> *</span>` : null}</span><span class="kind">${kind}${nullable ? ' or null' : ''}</span>`

  if (schema.variants) return html`<${Variants} ...${{ label, schema, root, value, required, onChange, pointer, messages, head, about }}/>`
  if (schema.type === 'object' || schema.type === 'array') {
    const isSet = value !== undefined && value !== null
    const body = schema.type === 'array'
      ? html`<${Items} ...${{ label, schema, root, value, onChange, pointer, messages }}/>`
      : html`<${ObjectFields} ...${{ schema, root, value, onChange, pointer, messages }}/>`
    return html`<fieldset><legend>${head}</legend>
      ${!required && html`<label class="check"><input type="checkbox" checked=${isSet} onChange=${(event) => onChange(event.target.checked ? initialValue(given, root) ?? (schema.type === 'array' ? [] : {}) : undefined)}/> set</label>`}
      ${isSet ? body : null}${about}</fieldset>`
  }
  let control
  const missing = required ? undefined : (text) => (text === '' ? undefined : null)
  if (schema.enum || schema.type === 'boolean') {
    const options = schema.enum ?? [true, false]
    const chosen = options.findIndex((option) => value !== undefined && stringify(option) === stringify(value))
    control = html`<select ...${attributes} onBlur=${leave} onChange=${(event) => onChange(event.target.value === '' ? undefined : options[Number(event.target.value)])}>
      ${!required || chosen < 0 ? html`<option value="" selected=${chosen < 0}>${required ? 'choose' : 'not set'}</option>` : null}
      ${options.map((option, index) => html`<option value=${index} selected=${index === chosen}>${typeof option === 'string' ? option : stringify(option)}</option>`)}</select>`
  } else if (schema.type === 'integer' || schema.type === 'number') {
    const read = (text) => {
      if (text === '') return undefined
      if (schema.type === 'integer') return /^-?\d+$/.test(text) ? integer(text.replace(/^(-?)0+(?=\d)/, '$1')) : new Wrong(text, 'must be an integer')
      return NUMBER.test(text) ? (validNumber(text) ? parse(text) : Number(text)) : new Wrong(text, 'must be a number')
    }
    control = html`<${NumberInput} ...${attributes} inputmode=${schema.type === 'integer' ? 'numeric' : 'decimal'} onBlur=${leave}
      value=${value} placeholder=${schema.default ?? ''} onValue=${(text) => { const next = read(text); onChange(next); return next }}/>`
  } else if (schema.type === 'string') {
    const read = (text) => (missing ? missing(text) ?? (text === '' ? undefined : text) : text)
    const long = !schema.format && !(schema.maxLength < 200)
    const type = { email: 'email', uri: 'url', date: 'date' }[schema.format] ?? 'text'
    const typed = { ...attributes, value: value ?? '', placeholder: schema.format === 'date-time' ? '2026-12-31T08:00:00Z' : schema.default ?? '',
      onBlur: leave, onInput: (event) => onChange(read(event.target.value)), autocomplete: 'off' }
    control = long ? html`<textarea rows="1" ...${typed}></textarea>` : html`<input type=${type} ...${typed}/>`
  } else return html`<${JsonField} label=${head} value=${value} onChange=${onChange} message=${shown ? message : ''} required=${required}/>`
  return html`<div class="field"><label for=${id}>${head}</label>${control}${about}</div>`
}

/** What was typed stays as it is, such as `0.` on the way to 0.5, until the value is changed from elsewhere. */
function NumberInput({ value, onValue, ...attributes }) {
  const textOf = (given) => (given instanceof Wrong ? given.text : given === undefined || given === null ? '' : String(given))
  const [typed, setTyped] = useState({ text: textOf(value), value })
  if (typed.value !== value) setTyped({ text: textOf(value), value })
  const type = (event) => {
    const text = event.target.value
    setTyped({ text, value: onValue(text.trim()) })
  }
  return html`<input ...${attributes} class="mono" autocomplete="off" value=${typed.text} onInput=${type}/>`
}

const validNumber = (text) => { try { JSON.parse(text); return true } catch { return false } }

function Variants({ label, schema, root, value, required, onChange, pointer, messages, head, about }) {
  const fitting = value === undefined || value === null ? -1 : schema.variants.findIndex((variant) => !errorsOf(value, variant, root).length)
  const [chosen, setChosen] = useState(Math.max(0, fitting)), id = useId()
  const variant = schema.variants[chosen]
  return html`<fieldset><legend>${head}</legend>
    <div class="variant"><label class="unseen" for=${id}>${label}: form</label><select id=${id} value=${chosen} onChange=${(event) => { setChosen(Number(event.target.value)); onChange(undefined) }}>
      ${schema.variants.map((one, index) => html`<option value=${index} selected=${index === chosen}>${nameOf(one)}</option>`)}</select>
    <${Field} key=${chosen} label=${label} schema=${variant} root=${root} value=${value} required=${required} onChange=${onChange} pointer=${pointer} messages=${messages}/></div>
    ${about}</fieldset>`
}

function Items({ label, schema, root, value, onChange, pointer, messages }) {
  const keys = useRef([]), next = useRef(0)
  while (keys.current.length < value.length) keys.current.push(next.current++)
  const add = () => onChange([...value, initialValue(schema.items ?? {}, root)])
  const remove = (index) => { keys.current.splice(index, 1); onChange(value.filter((_, at) => at !== index)) }
  return html`${value.map((item, index) => html`<div class="item" key=${keys.current[index]}><${Field} label=${`${label} ${index + 1}`} schema=${schema.prefixItems?.[index] ?? schema.items ?? {}} root=${root}
      value=${item} required=${true} onChange=${(changed) => onChange(value.map((one, at) => (at === index ? changed : one)))} pointer=${`${pointer}/${index}`} messages=${messages}/>
    <button type="button" class="small" aria-label=${`Remove ${label} ${index + 1}`} onClick=${() => remove(index)}>✕</button></div>`)}
    <button type="button" class="small" onClick=${add} disabled=${schema.maxItems <= value.length}>Add to ${label}</button>`
}

/** Any value as JSON text. */
export function JsonField({ label, value, onChange, message = '', rows = 3, required = false }) {
  const id = useId()
  const [text, setText] = useState(value instanceof Wrong ? value.text : value === undefined ? '' : stringify(value, 2))
  const type = (event) => {
    setText(event.target.value)
    if (!event.target.value.trim()) return onChange(undefined)
    try { onChange(parse(event.target.value)) } catch (error) { onChange(new Wrong(event.target.value, `is no JSON: ${error.message}`)) }
  }
  return html`<div class="field"><label for=${id}>${label}</label>
    <textarea id=${id} class="mono" spellcheck=${false} rows=${Math.min(20, Math.max(rows, text.split('\n').length))} value=${text} onInput=${type} required=${required}
      aria-invalid=${Boolean(message)} aria-describedby=${`${id}-about`}></textarea>
    <p id=${`${id}-about`} class=${message ? 'about wrong' : 'about'}>${message}</p></div>`
}

/** Arguments by name, from a job's args and kwargs; null if the names of some are not known. */
export function byName(schema, args, kwargs) {
  const names = Object.keys(schema.properties ?? {})
  if (args.length > names.length || names.slice(0, args.length).some((name) => name in kwargs)) return null
  return { ...Object.fromEntries(args.map((value, index) => [names[index], value])), ...kwargs }
}
