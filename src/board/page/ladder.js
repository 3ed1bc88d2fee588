// The ladder: a sequence diagram with a lane for each client, the portal, each thread that serves a
// client, and each room.
'use strict';

/** Maximum number of rows that are kept. A round of the demonstration has about 350. */
const MOST_ROWS = 600;
/** Maximum number of recipients of one message that get their own arrows. */
const MOST_ARROWS = 6;
const FONT = 'system-ui, sans-serif';
/** The size of the text in a saved picture, in pixels. */
const SAVED_SIZE = 16;

const ladder = {
  rows: [],
  /** The names of clients, by lane; empty if several clients had that seat. */
  names: new Map(),
  dirty: false,

  clear() {
    this.rows = [];
    this.names = new Map();
    this.dirty = true;
  },

  /** Adds the rows of an event. `shown` is the state after it. */
  take(event, shown = state) {
    const before = this.rows.length;
    this.add(event, shown);
    if (this.rows.length > MOST_ROWS) this.rows.splice(0, this.rows.length - MOST_ROWS);
    if (this.rows.length !== before || before === MOST_ROWS) this.dirty = true;
  },

  /** Returns the lane of a seat's client. A browser has its own lane, as it has its own thread. */
  clientOf(seat, shown) {
    const card = shown.cards.get(seat);
    return card && card.web && card.thread ? { key: 'c:' + card.thread, seat, web: true } : { key: 'c:' + seat, seat };
  },

  add(event, shown) {
    const d = event.details;
    const seat = event.seat;
    const thread = event.by || workerOf(seat) || 'seat-' + seat;
    const client = { key: 'c:' + (event.web && event.by ? event.by : seat), seat, web: event.web };
    const worker = { key: 't:' + thread, seat, name: thread };
    const portal = { key: 'portal' };
    const other = { key: 'other' };
    const room = () => ({ key: 'r:' + String(d.room).toLowerCase(), name: 'room ' + d.room });
    const arrow = (from, to, label, kind) => this.rows.push({ from, to, label: String(label), kind: kind || 'plain', event });
    const note = (lane, label) => this.rows.push({ lane, label, event });
    const text = said(event);
    /** Adds arrows to the recipients of a message. */
    const deliver = (from, count, what) => {
      for (const to of event.to.slice(0, MOST_ARROWS)) arrow(from, this.clientOf(to, shown), text);
      if (count > Math.min(event.to.length, MOST_ARROWS)) note(from, 'to ' + counted(count, what[0], what[1]));
    };
    switch (event.event) {
      case 'tick': {
        const last = this.rows[this.rows.length - 1];
        // Ticks without other events share one line.
        if (last && last.tick !== undefined) { last.tick = event.tick; last.event = event; this.dirty = true; } else this.rows.push({ tick: event.tick, event });
        break;
      }
      case 'ticket':
        if (event.web) {
          arrow(client, worker, 'opens a WebSocket');
          arrow(worker, client, d.port + ' and passcode');
        } else {
          arrow(client, portal, 'requests a port');
          arrow(portal, client, d.port + ' and passcode');
        }
        break;
      case 'ticket-resent':
        arrow(client, portal, 'requests a port again');
        arrow(portal, client, 'the same: ' + d.port);
        break;
      case 'full':
        arrow(other, portal, 'requests a port');
        arrow(portal, other, 'FULL', 'bad');
        break;
      case 'no-show': note(worker, 'client did not connect'); break;
      case 'arrived': arrow(client, worker, 'connects'); break;
      case 'unexpected-connection': arrow(other, worker, 'unexpected', 'bad'); arrow(worker, other, 'rejected', 'bad'); break;
      case 'wrong-passcode':
        if (seat === null) break;
        arrow(client, worker, 'a wrong passcode', 'bad');
        arrow(worker, client, 'Wrong handshake passcode', 'bad');
        break;
      case 'calling': arrow(worker, client, 'connects to ' + d.peer); break;
      case 'seated':
        arrow(client, worker, isSingle() ? 'connects' : 'the passcode');
        arrow(worker, client, 'Connection successful', 'good');
        break;
      case 'logged-in':
        // One lane may show several clients, one after another.
        this.names.set(client.key, [undefined, d.name].includes(this.names.get(client.key)) ? d.name : '');
        note(worker, 'logged in: ' + d.name);
        break;
      case 'relayed':
        arrow(client, worker, text);
        deliver(worker, 1, ['partner', 'partners']);
        break;
      case 'no-partner': arrow(client, worker, 'a message'); arrow(worker, client, 'NO PARTNER', 'bad'); break;
      case 'direct':
        arrow(client, worker, 'to ' + d.to + ': ' + text);
        deliver(worker, 1, ['client', 'clients']);
        break;
      case 'public':
        arrow(client, worker, 'to everyone: ' + text);
        deliver(worker, d.count, ['client', 'clients']);
        break;
      case 'room-opened': note(room(), 'opens on port ' + d.port); break;
      case 'room-joined':
        if (seat === null) note(room(), d.name + ' joins');
        else arrow(client, room(), 'joins; ' + event.thread + ' reads', 'good');
        break;
      case 'room-said':
        if (seat === null) note(room(), d.name + ': ' + text);
        else arrow(client, room(), text);
        deliver(room(), d.count, ['member', 'members']);
        break;
      case 'room-left': note(room(), d.name + ' leaves'); break;
      case 'room-ended': note(room(), 'ends'); break;
      case 'refused': if (seat !== null) arrow(worker, client, d.code, 'bad'); break;
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
      case 'port-ready': note(worker, 'listening; port on the stack'); break;
      case 'seat-free': note(worker, isSingle() ? 'the seat is free' : 'new passcode; port back on the stack'); break;
      case 'caption': this.rows.push({ caption: d.text, event }); break;
    }
  },

  /** Returns the lanes for the rows, from left to right. The threads of partners are adjacent. */
  lanes(rows) {
    const found = new Map();
    for (const row of rows) for (const lane of [row.from, row.to, row.lane]) if (lane && !found.has(lane.key)) found.set(lane.key, lane);
    const all = [...found.values()];
    const [seated, rooms] = [all.filter((lane) => lane.seat !== undefined), all.filter((lane) => lane.key.startsWith('r:'))];
    const lanes = [found.get('other'), found.get('portal')].filter(Boolean);
    const of = (seat, kind) => seated.filter((lane) => lane.seat === seat && lane.key.startsWith(kind));
    const done = new Set();
    for (const seat of [...new Set(seated.map((lane) => lane.seat))].sort((a, b) => a - b)) {
      if (done.has(seat)) continue;
      lanes.push(...of(seat, 'c:'), ...of(seat, 't:'));
      done.add(seat);
      const card = state.cards.get(seat);
      const partner = card && card.partner;
      if (partner && !done.has(partner)) {
        lanes.push(...of(partner, 't:').reverse(), ...of(partner, 'c:').reverse());
        done.add(partner);
      }
    }
    return [...lanes, ...rooms];
  },

  name(lane) {
    if (lane.key === 'other') return 'others';
    if (lane.key === 'portal') return 'portal';
    return lane.name || this.names.get(lane.key) || (lane.web ? 'browser ' : 'client ') + lane.seat;
  },

  /** Draws a complete picture, and the names of the lanes as a separate picture. */
  draw(least, colours, size = SAVED_SIZE) {
    const wanted = $('ticks').checked;
    const [rowHigh, head, lane] = [Math.round(size * 1.9), Math.round(size * 2.75), Math.round(size * 7.6)];
    const rows = this.rows.filter((row) => wanted || row.tick === undefined);
    const lanes = this.lanes(rows);
    const width = Math.max(least, lanes.length * lane);
    const at = new Map(lanes.map((there, index) => [there.key, (index + 0.5) * width / lanes.length]));
    const x = (there) => (there ? at.get(there.key) : undefined);
    const height = head + (rows.length + 1) * rowHigh;
    const text = (value, left, top, attributes, most) => words(value, left, top, { 'font-size': size, ...attributes }, most);
    const svg = make('svg', { xmlns: SVG, width, height, viewBox: `0 0 ${width} ${height}`, 'font-family': FONT, 'font-size': size });
    svg.append(make('rect', { width, height, fill: colours.paper }));
    const marker = (id, colour) => {
      const made = make('marker', { id, viewBox: '0 0 8 8', refX: 8, refY: 4, markerWidth: 8, markerHeight: 8, orient: 'auto-start-reverse' });
      made.append(make('path', { d: 'M0 0 L8 4 L0 8 Z', fill: colour }));
      return made;
    };
    const defs = make('defs', {});
    for (const kind of ['plain', 'good', 'bad']) defs.append(marker('tip-' + kind, colours[kind]));
    svg.append(defs);
    const names = make('svg', { class: 'names', width, height: head, 'font-family': FONT, 'font-size': size });
    names.append(make('rect', { width, height: head, fill: colours.paper }));
    for (const there of lanes) {
      const middle = x(there);
      const isThread = there.key === 'portal' || there.key.startsWith('t:') || there.key.startsWith('r:');
      const line = { x1: middle, x2: middle, y1: head - 8, y2: height, stroke: colours.line, 'stroke-width': isThread ? 5 : 1.5 };
      // A browser's lane is dashed.
      if (there.web && !isThread) line['stroke-dasharray'] = '8 4';
      svg.append(make('line', line));
      const style = { fill: colours.ink, 'text-anchor': 'middle', 'font-weight': 700, 'font-size': size };
      const name = heading(this.name(there), middle, head, style, width / lanes.length - 8);
      svg.append(name);
      names.append(name.cloneNode(true));
    }
    rows.forEach((row, index) => {
      const y = head + (index + 1) * rowHigh;
      const group = make('g', { class: 'row', 'data-n': row.event.n });
      if (row.tick !== undefined) {
        group.append(make('line', { x1: 0, x2: width, y1: y - 6, y2: y - 6, stroke: colours.tick, 'stroke-dasharray': '2 7', 'stroke-width': 2 }));
        group.append(text('tick ' + row.tick, 6, y - 10, { fill: colours.tick }, 6 * size));
      } else if (row.caption !== undefined) {
        group.append(make('rect', { x: 0, y: y - rowHigh * 0.75, width, height: rowHigh * 0.9, fill: colours.caption }));
        group.append(text(row.caption, least / 2, y - 4, { fill: colours.ink, 'text-anchor': 'middle', 'font-weight': 700 }, least - 20));
      } else if (row.lane !== undefined) {
        const middle = x(row.lane);
        if (middle === undefined) return;
        const anchor = middle > width * 0.7 ? 'end' : 'start';
        group.append(make('circle', { cx: middle, cy: y - 6, r: 6, fill: colours.plain }));
        group.append(text(row.label, middle + (anchor === 'end' ? -11 : 11), y - 1, { fill: colours.ink, 'text-anchor': anchor }, width * 0.3));
      } else {
        const [from, to] = [x(row.from), x(row.to)];
        if (from === undefined || to === undefined) return;
        group.append(make('line', { x1: from, x2: to, y1: y - 3, y2: y - 3, stroke: colours[row.kind], 'stroke-width': 2, 'marker-end': `url(#tip-${row.kind})` }));
        const length = Math.abs(to - from);
        // The middle of a long arrow may be out of sight, so its label is at the right end.
        const [left, anchor] = length > least ? [Math.max(from, to) - 12, 'end'] : [(from + to) / 2, 'middle'];
        group.append(text(row.label, left, y - 8, { fill: colours.ink, 'text-anchor': anchor }, Math.max(length, lane) + 3 * size));
      }
      svg.append(group);
    });
    const last = rows.findLast((row) => at.has((row.from || row.lane || {}).key));
    // The position of the newest row, for scrolling: that of its rightmost lane.
    const newest = last ? Math.max(x(last.from) || 0, x(last.to) || 0, x(last.lane) || 0) : 0;
    return { svg, names, newest, head, lane };
  },

  show() {
    if (!this.dirty || $('ladder').hidden) return;
    this.dirty = false;
    const box = $('ladder-scroll');
    const [left, top] = [box.scrollLeft, box.scrollTop];
    const size = Math.max(16, Math.round(Math.min(innerWidth / 192, innerHeight / 108) * 2.2));
    const { svg, names, newest, head, lane } = this.draw(box.clientWidth, colours(), size);
    // The names stay visible, and cover those in the picture.
    svg.style.marginTop = -head + 'px';
    box.replaceChildren(names, svg);
    const follow = $('follow').checked;
    const isInSight = newest > left + lane && newest < left + box.clientWidth - lane / 2;
    box.scrollLeft = follow && !isInSight ? newest - box.clientWidth / 2 : left;
    box.scrollTop = follow ? box.scrollHeight : top;
  },

  save() {
    const { svg } = this.draw(1240, colours());
    const file = new Blob([new XMLSerializer().serializeToString(svg)], { type: 'image/svg+xml' });
    const anchor = document.createElement('a');
    anchor.href = URL.createObjectURL(file);
    anchor.download = 'ladder.svg';
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(anchor.href), 10000);
  },
};

const measure = document.createElement('canvas').getContext('2d');

/** Returns the width of a text in pixels. */
function wide(text, attributes) {
  measure.font = `${attributes['font-weight'] || 400} ${attributes['font-size']}px ${FONT}`;
  return measure.measureText(text).width;
}

/** Creates a text element, shortened to `width` pixels. */
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

/** Creates the name above a lane. A long name is split into two lines, to keep a thread's number
 * visible. */
function heading(name, x, height, attributes, width) {
  const made = make('g', {});
  const whole = make('title', {});
  whole.textContent = name;
  made.append(whole);
  const at = Math.max(name.lastIndexOf('-'), name.lastIndexOf(' ')) + 1;
  const lines = at && wide(name, attributes) > width ? [name.slice(0, at).trim(), name.slice(at)] : [name];
  lines.forEach((line, row) => made.append(words(line, x, height * ((lines.length === 1 ? 0.6 : 0.4) + row * 0.42), attributes, width)));
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
