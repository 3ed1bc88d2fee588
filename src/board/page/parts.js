// Small helpers, and the state of the server at the event that the page shows. All text from clients
// becomes text nodes, never markup.
'use strict';

const SVG = 'http://www.w3.org/2000/svg';

const $ = (id) => document.getElementById(id);
const calm = matchMedia('(prefers-reduced-motion: reduce)');

/** The state that the page shows. Only the timeline replaces it. */
const state = {
  cards: new Map(),
  stack: { count: 0, top: [] },
  rooms: [],
  threads: new Map(),
  listeners: {},
  rules: {},
  seats: 0,
  tick: 0,
  caption: null,
  over: false,
  /** The events up to the one that the page shows. */
  events: [],
  /** The seat, visit or event that the user has selected. */
  chosen: null,
};

/** Looks up `word` in `table`. A recording may contain built-in names, such as constructor. */
function of(table, word) {
  return Object.hasOwn(table, word) ? table[word] : undefined;
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Creates an element of an SVG. */
function make(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Draws a passcode. */
function keyIcon() {
  const icon = make('svg', { class: 'key-icon', viewBox: '0 0 26 14', 'aria-label': 'passcode' });
  icon.append(make('circle', { cx: 7, cy: 7, r: 4.5 }), make('path', { d: 'M11.5 7 H24 V12 M19 7 V11' }));
  return icon;
}

/** Sets a part's text, if it has changed. */
function write(part, text) {
  if (part.textContent !== String(text)) part.textContent = text;
}

/** Formats a number with its noun in the singular or plural. */
function counted(count, one, many) {
  return count + ' ' + (count === 1 ? one : many);
}

/** Returns the beginning of a passcode, which is enough to recognise it. */
function shortened(passcode) {
  return String(passcode).slice(0, 6) + '…';
}

/** Omits the address of this machine. The port identifies the client. */
function withoutLoopback(address) {
  return String(address).replace(/^127\.0\.0\.1(?=:)/, '');
}

/** Returns whether an event is a socket call. Only stories show these, because there are many. */
function isCall(event) {
  return ['bind', 'listen', 'accept', 'connect', 'read', 'write', 'shutdown', 'close', 'recv_from', 'send_to', 'frame'].includes(event.event);
}

const UNSEEN = ['activity', 'act-ended', 'caption', 'cluster-server', 'thread-started', 'thread-ended', 'listening'];

/** Returns whether an event is listed below the board. The clock shows the ticks. */
function isListed(event) {
  return !isCall(event) && !UNSEEN.includes(event.event) && event.event !== 'tick';
}

/** Returns whether an event is one step of the time controls, because the board shows it. */
function isStep(event) {
  return isListed(event) || event.event === 'caption' || (event.event === 'tick' && event.details.told > 0);
}

/** Returns the text of a message, or its size if texts are hidden. */
function said(event) {
  const d = event.details;
  if (d.text !== undefined) return String(d.text);
  return d.bytes === undefined ? 'a message' : counted(d.bytes, 'byte', 'bytes');
}

/** Returns the name of a client: its own, or that of its seat. */
function clientName(seat) {
  const card = state.cards.get(seat);
  return (card && card.name) || 'client ' + seat;
}

function isSingle() {
  return Boolean(state.listeners.single);
}
