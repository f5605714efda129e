// Texts for numbers, durations, times, and characters that would not be seen.

// eslint-disable-next-line no-control-regex
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g

/** The text with controls as escape codes, such as \x1b. Line breaks and tabs stay. */
export const visible = (text) => text.replace(/\r\n/g, '\n').replace(UNSEEN, (char) => {
  const code = char.charCodeAt(0)
  return code < 256 ? '\\x' + code.toString(16).padStart(2, '0') : '\\u' + code.toString(16).padStart(4, '0')
})

export const count = (number) => Number(number).toLocaleString('en')

export function short(number) {
  if (number < 10_000) return count(number)
  return new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 }).format(number)
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(Number(seconds))) return '–'
  const value = Number(seconds)
  if (value < 0) return '-' + duration(-value)
  if (value === 0) return '0 s'
  if (value < 0.001) return `${Number((value * 1e6).toPrecision(2))} µs`
  if (value < 0.9995) return `${Number((value * 1000).toPrecision(3))} ms`
  if (value < 59.95) return `${Number(value.toPrecision(3))} s`
  const parts = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]]
  let rest = Math.round(value), found = []
  for (const [unit, size] of parts) {
    const amount = Math.floor(rest / size)
    if (amount || found.length) found.push(`${amount} ${unit}`)
    rest -= amount * size
    if (found.length === 2) break
  }
  return found.filter((part) => !part.startsWith('0 ')).join(' ')
}

/** A duration on an axis: one unit. */
export function tick(seconds) {
  const [size, unit] = seconds >= 86400 ? [86400, 'd'] : seconds >= 3600 ? [3600, 'h'] : seconds >= 60 ? [60, 'min'] : [1, 's']
  return seconds >= 60 ? `${Number((seconds / size).toPrecision(2))} ${unit}` : duration(seconds)
}

export const percent = (part, whole) =>
  whole ? `${Number(((100 * part) / whole).toPrecision(part === whole ? 3 : 2))} %` : '–'

export const seconds = (from, to) => (from && to ? (Date.parse(to) - Date.parse(from)) / 1000 : null)

const CLOCK = { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' }
const clock = new Intl.DateTimeFormat('en-GB', CLOCK)
const dayAndClock = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', ...CLOCK })
const full = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', year: 'numeric', ...CLOCK })

/** A moment in the reader's zone; the date only if it is not today. */
export function moment(text, now = new Date()) {
  const date = new Date(text)
  if (Number.isNaN(date.getTime())) return String(text)
  if (date.toDateString() === now.toDateString()) return clock.format(date)
  return (date.getFullYear() === now.getFullYear() ? dayAndClock : full).format(date)
}

export function ago(text, now = Date.now()) {
  const passed = (now - Date.parse(text)) / 1000
  if (Number.isNaN(passed)) return ''
  const whole = Math.max(1, Math.round(Math.abs(passed)))
  const rough = duration(whole)
  return passed >= 0 ? `${rough.split(' ').slice(0, 2).join(' ')} ago` : `in ${rough}`
}
