// The ladder: a sequence diagram with a lane for each client, the portal and each worker.
'use strict';

const SVG = 'http://www.w3.org/2000/svg';
const ROW = 30;
const HEAD = 44;
const MOST_ROWS = 300;
/** The minimum width of a lane. A picture with many lanes is wider than the window, and scrolls. */
const LANE = 122;
const FONT = 'system-ui, sans-serif';
const SIZE = 16;

const ladder = {
  rows: [],
  dirty: false,

  clear() {
    this.rows = [];
    this.dirty = true;
  },

  take(event) {
    const before = this.rows.length;
    this.add(event);
    if (this.rows.length > MOST_ROWS) this.rows.splice(0, this.rows.length - MOST_ROWS);
    if (this.rows.length !== before || before === MOST_ROWS) this.dirty = true;
  },

  add(event) {
    const d = event.details;
    const seat = event.seat;
    const client = 'c' + seat;
    const worker = 'w' + seat;
    const arrow = (from, to, label, kind) => this.rows.push({ from, to, label, kind: kind || 'plain', event });
    const note = (lane, label) => this.rows.push({ lane, label, event });
    const said = d.text === undefined ? (d.bytes === undefined ? 'a message' : counted(d.bytes, 'byte', 'bytes')) : d.text;
    switch (event.event) {
      case 'tick': {
        const last = this.rows[this.rows.length - 1];
        // Ticks without other events share one line.
        if (last && last.tick !== undefined) { last.tick = event.tick; last.event = event; this.dirty = true; } else this.rows.push({ tick: event.tick, event });
        break;
      }
      case 'ticket':
        arrow(client, 'portal', 'requests a port');
        arrow('portal', client, d.port + ' and passcode');
        break;
      case 'ticket-resent':
        arrow(client, 'portal', 'requests a port again');
        arrow('portal', client, 'the same: ' + d.port);
        break;
      case 'full':
        arrow('other', 'portal', 'requests a port');
        arrow('portal', 'other', 'FULL', 'bad');
        break;
      case 'no-show': note(worker, 'client did not connect'); break;
      case 'arrived': arrow(client, worker, 'connects'); break;
      case 'unexpected-connection': arrow('other', worker, 'unexpected', 'bad'); arrow(worker, 'other', 'rejected', 'bad'); break;
      case 'wrong-passcode':
        arrow(client, worker, 'a wrong passcode', 'bad');
        arrow(worker, client, 'Wrong handshake passcode', 'bad');
        break;
      case 'calling': arrow(worker, client, 'connects to ' + d.peer); break;
      case 'seated':
        arrow(client, worker, state.listeners.single ? 'connects' : 'the passcode');
        arrow(worker, client, 'Connection successful', 'good');
        break;
      case 'logged-in': note(worker, 'logged in: ' + d.name); break;
      case 'relayed':
        arrow(client, worker, said);
        arrow(worker, 'c' + event.to, said);
        break;
      case 'no-partner': arrow(client, worker, 'a message'); arrow(worker, client, 'NO PARTNER', 'bad'); break;
      case 'direct': {
        arrow(client, worker, 'to ' + d.to + ': ' + said);
        const to = seatOf(d.to);
        if (to !== undefined) arrow(worker, 'c' + to, said);
        break;
      }
      case 'public': arrow(client, worker, 'to everyone: ' + said); note(worker, 'to ' + d.count + ' people'); break;
      case 'refused': arrow(worker, client, d.code, 'bad'); break;
      case 'closed': {
        const words = of({
          'terminate': [client, worker, 'TERMINATE'],
          'gone': [client, worker, 'closes'],
          'broken': [client, worker, 'connection reset', 'bad'],
          'idle-timeout': [worker, client, 'IDLE TIMEOUT', 'bad'],
          'handshake-timeout': [worker, client, 'IDLE TIMEOUT', 'bad'],
          'total-time-timeout': [worker, client, 'TOTAL TIME TIMEOUT', 'bad'],
          'wrong-passcode': [worker, client, 'closes', 'bad'],
          'shutdown': [worker, client, 'SHUTDOWN', 'bad'],
        }, d.end) || [worker, client, d.end, 'bad'];
        arrow(...words);
        break;
      }
      case 'port-ready': note(worker, 'listens; port on the stack'); break;
      case 'seat-free': note(worker, 'new passcode; port back on the stack'); break;
      case 'room-opened': note('portal', 'room ' + d.room + ' on port ' + d.port); break;
      case 'room-ended': note('portal', 'room ' + d.room + ' ends'); break;
      case 'caption': this.rows.push({ caption: d.text, event }); break;
    }
  },

  /** Returns the lanes for the rows, from left to right. The workers of partners are adjacent. */
  lanes(rows) {
    const seats = new Set();
    let others = false;
    let portal = false;
    for (const row of rows) {
      for (const lane of [row.from, row.to, row.lane]) {
        if (lane === 'other') others = true;
        if (lane === 'portal') portal = true;
        const seat = lane && Number(lane.slice(1));
        if (seat) seats.add(seat);
      }
    }
    const lanes = [others && 'other', portal && 'portal'].filter(Boolean);
    const done = new Set();
    for (const seat of [...seats].sort((a, b) => a - b)) {
      if (done.has(seat)) continue;
      lanes.push('c' + seat, 'w' + seat);
      done.add(seat);
      const partner = partnerOf(seat);
      if (seats.has(partner)) {
        lanes.push('w' + partner, 'c' + partner);
        done.add(partner);
      }
    }
    return lanes;
  },

  name(lane) {
    if (lane === 'other') return 'others';
    if (lane === 'portal') return 'portal';
    const seat = Number(lane.slice(1));
    if (lane[0] === 'w') return threadOf('worker', seat);
    const card = state.cards.get(seat);
    return (card && card.name) || 'client ' + seat;
  },

  /** Draws a complete picture, and the names of the lanes as a separate picture. */
  draw(least, colours) {
    const wanted = document.getElementById('ticks').checked;
    const rows = this.rows.filter((row) => wanted || row.tick === undefined);
    const lanes = this.lanes(rows);
    const width = Math.max(least, lanes.length * LANE);
    const at = new Map(lanes.map((lane, index) => [lane, (index + 0.5) * width / lanes.length]));
    const height = HEAD + (rows.length + 1) * ROW;
    const svg = make('svg', { xmlns: SVG, width, height, viewBox: `0 0 ${width} ${height}`, 'font-family': FONT, 'font-size': SIZE });
    svg.append(make('rect', { width, height, fill: colours.paper }));
    const marker = (id, colour) => {
      const made = make('marker', { id, viewBox: '0 0 8 8', refX: 8, refY: 4, markerWidth: 8, markerHeight: 8, orient: 'auto-start-reverse' });
      made.append(make('path', { d: 'M0 0 L8 4 L0 8 Z', fill: colour }));
      return made;
    };
    const defs = make('defs', {});
    for (const kind of ['plain', 'good', 'bad']) defs.append(marker('tip-' + kind, colours[kind]));
    svg.append(defs);
    const names = make('svg', { class: 'names', width, height: HEAD, 'font-family': FONT, 'font-size': SIZE });
    names.append(make('rect', { width, height: HEAD, fill: colours.paper }));
    for (const [lane, x] of at) {
      svg.append(make('line', { x1: x, x2: x, y1: HEAD - 8, y2: height, stroke: colours.line, 'stroke-width': lane[0] === 'c' || lane === 'other' ? 1.5 : 5 }));
      const head = heading(this.name(lane), x, { fill: colours.ink, 'text-anchor': 'middle', 'font-weight': 700 }, width / lanes.length - 8);
      svg.append(head);
      names.append(head.cloneNode(true));
    }
    rows.forEach((row, index) => {
      const y = HEAD + (index + 1) * ROW;
      const group = make('g', { class: 'row', 'data-n': row.event.n });
      if (row.tick !== undefined) {
        group.append(make('line', { x1: 0, x2: width, y1: y - 6, y2: y - 6, stroke: colours.tick, 'stroke-dasharray': '2 7', 'stroke-width': 2 }));
        group.append(words('tick ' + row.tick, 6, y - 10, { fill: colours.tick, 'font-size': SIZE }, 90));
      } else if (row.caption !== undefined) {
        group.append(make('rect', { x: 0, y: y - 22, width, height: 26, fill: colours.caption }));
        group.append(words(row.caption, least / 2, y - 4, { fill: colours.ink, 'text-anchor': 'middle', 'font-weight': 700 }, least - 20));
      } else if (row.lane !== undefined) {
        const x = at.get(row.lane);
        if (x === undefined) return;
        const anchor = x > width * 0.7 ? 'end' : 'start';
        group.append(make('circle', { cx: x, cy: y - 6, r: 6, fill: colours.plain }));
        group.append(words(row.label, x + (anchor === 'end' ? -11 : 11), y - 1, { fill: colours.ink, 'text-anchor': anchor }, width * 0.3));
      } else {
        const from = at.get(row.from);
        const to = at.get(row.to);
        if (from === undefined || to === undefined) return;
        const colour = colours[row.kind];
        group.append(make('line', { x1: from, x2: to, y1: y - 3, y2: y - 3, stroke: colour, 'stroke-width': 2, 'marker-end': `url(#tip-${row.kind})` }));
        const length = Math.abs(to - from);
        // The middle of a long arrow may be out of sight, so its label is at the right end.
        const [x, anchor] = length > least ? [Math.max(from, to) - 12, 'end'] : [(from + to) / 2, 'middle'];
        group.append(words(row.label, x, y - 8, { fill: colours.ink, 'text-anchor': anchor }, Math.max(length, 120) + 50));
      }
      svg.append(group);
    });
    const last = rows.findLast((row) => at.has(row.from) || at.has(row.lane));
    // The position of the newest row, for scrolling. Of its two lanes, it is the one further right.
    const newest = last ? Math.max(at.get(last.from) || 0, at.get(last.to) || 0, at.get(last.lane) || 0) : 0;
    return { svg, names, newest };
  },

  show() {
    if (!this.dirty || document.getElementById('ladder').hidden) return;
    this.dirty = false;
    const box = document.getElementById('ladder-scroll');
    const [left, top] = [box.scrollLeft, box.scrollTop];
    const { svg, names, newest } = this.draw(box.clientWidth, colours());
    // The names stay visible, and cover those in the picture.
    svg.style.marginTop = -HEAD + 'px';
    box.replaceChildren(names, svg);
    const follow = document.getElementById('follow').checked;
    const isInSight = newest > left + LANE && newest < left + box.clientWidth - LANE / 2;
    box.scrollLeft = follow && !isInSight ? newest - box.clientWidth / 2 : left;
    box.scrollTop = follow ? box.scrollHeight : top;
  },

  save() {
    const { svg } = this.draw(1240, colours());
    const file = new Blob([new XMLSerializer().serializeToString(svg)], { type: 'image/svg+xml' });
    const link = document.createElement('a');
    link.href = URL.createObjectURL(file);
    link.download = 'ladder.svg';
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  },
};

function make(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const measure = document.createElement('canvas').getContext('2d');

/** Returns the width of a text in pixels. */
function wide(text, attributes) {
  measure.font = `${attributes['font-weight'] || 400} ${SIZE}px ${FONT}`;
  return measure.measureText(text).width;
}

/** Creates a text, shortened to `width` pixels. */
function words(text, x, y, attributes, width) {
  const made = make('text', Object.assign({ x, y }, attributes));
  // A message may be long. Each character is at least three pixels wide.
  const begin = [...text.slice(0, Math.ceil(width / 3))];
  if (begin.join('') === text && wide(text, attributes) <= width) made.textContent = text;
  else {
    while (begin.length > 1 && wide(begin.join('') + '…', attributes) > width) begin.pop();
    made.textContent = begin.join('') + '…';
  }
  return made;
}

/** Creates the name above a lane. A long name has two lines, so the number of a thread is shown. */
function heading(name, x, attributes, width) {
  const made = make('g', {});
  const whole = make('title', {});
  whole.textContent = name;
  made.append(whole);
  const at = name.lastIndexOf('-') + 1;
  const lines = at && wide(name, attributes) > width ? [name.slice(0, at), name.slice(at)] : [name];
  lines.forEach((line, row) => made.append(words(line, x, (lines.length === 1 ? 26 : 17) + row * 18, attributes, width)));
  return made;
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue('--' + name).trim();
  return {
    paper: of('paper'), ink: of('ink'), line: of('line'), caption: of('caption'),
    plain: of('accent'), good: of('seated'), bad: of('closing'), tick: of('free'),
  };
}
