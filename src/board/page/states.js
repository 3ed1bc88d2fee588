// The diagram of a seat's states, as in src/core/seat/machine.rs, with the current one highlighted.
'use strict';

/** The states: name, and centre of the box. */
const STATES = {
  free: [80, 76], reserved: [450, 76], greeting: [800, 76],
  seated: [800, 276], closing: [450, 276], calling: [1112, 176],
};
const BOX = [150, 50];

/** The transitions: from, to, cause, curvature of the arrow, and side of its label. */
const TRANSITIONS = [
  ['free', 'reserved', 'portal reserves'],
  ['reserved', 'greeting', 'connects'],
  ['greeting', 'seated', 'right passcode', 0, 'right'],
  ['greeting', 'calling', ''],
  ['calling', 'seated', 'answers', 0, 'right'],
  ['seated', 'closing', 'ends'],
  ['greeting', 'closing', 'wrong, late', 0, 'left'],
  ['reserved', 'closing', 'no-show', 0, 'left'],
  ['closing', 'free', 'new passcode', 0, 'left'],
  ['free', 'greeting', 'a browser connects', 60],
];
/** On a single port there is no portal and no passcode. */
const SINGLE_TRANSITIONS = [['free', 'seated', 'connects'], ['seated', 'closing', 'ends'], ['closing', 'free', 'cleaned up', 0, 'left']];

/** Returns the point at which a line from the centre of a box towards another point leaves the
 * box. */
function edgeOf([x, y], [towardsX, towardsY]) {
  const [dx, dy] = [towardsX - x, towardsY - y];
  const scale = Math.min(BOX[0] / 2 / Math.abs(dx || 1e-9), BOX[1] / 2 / Math.abs(dy || 1e-9));
  return [x + dx * scale, y + dy * scale];
}

/** Returns the last transition that the seat has made: the phases before and after. */
function lastTransition(seat) {
  const phases = { 'no-show': ['reserved', 'closing'], arrived: ['reserved', 'greeting'], calling: ['greeting', 'calling'], 'seat-free': ['closing', 'free'] };
  const own = state.events.filter((event) => event.seat === seat);
  for (const event of own.reverse()) {
    if (event.event === 'ticket') return ['free', event.web ? 'greeting' : 'reserved'];
    if (event.event === 'seated') {
      if (isSingle()) return ['free', 'seated'];
      const called = own.some((other) => other.event === 'calling' && other.visit === event.visit);
      return [called ? 'calling' : 'greeting', 'seated'];
    }
    if (event.event === 'closed') {
      const seated = own.some((other) => other.event === 'seated' && other.visit === event.visit);
      return [seated ? 'seated' : 'greeting', 'closing'];
    }
    const phase = of(phases, event.event);
    if (phase) return phase;
  }
  return [];
}

/** Draws the states of a seat. */
function stateDiagram(seat) {
  const card = state.cards.get(seat);
  const svg = make('svg', { viewBox: '0 0 1195 312', role: 'img', class: 'states' });
  const title = make('title', {});
  title.textContent = 'the states of seat ' + seat + (card ? '; it is ' + card.phase : '');
  const defs = make('defs', {});
  for (const id of ['tip', 'tip-made']) {
    const marker = make('marker', { id: 'state-' + id, viewBox: '0 0 8 8', refX: 8, refY: 4, markerWidth: 7, markerHeight: 7, orient: 'auto' });
    marker.append(make('path', { d: 'M0 0 L8 4 L0 8 Z', class: id }));
    defs.append(marker);
  }
  svg.append(title, defs);
  const transitions = isSingle() ? SINGLE_TRANSITIONS : TRANSITIONS;
  const [before, after] = lastTransition(seat);
  for (const [from, to, cause, bend = 0, side = ''] of transitions) {
    const [a, b] = [edgeOf(STATES[from], STATES[to]), edgeOf(STATES[to], STATES[from])];
    const isMade = from === before && to === after;
    const group = make('g', { class: isMade ? 'transition made' : 'transition' });
    let middle = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
    let path = `M${a} L${b}`;
    if (bend) {
      const [start, end] = [[STATES[from][0], STATES[from][1] - 25], [STATES[to][0], STATES[to][1] - 25]];
      path = `M${start} C${start[0] + 40} ${start[1] - bend} ${end[0] - 40} ${end[1] - bend} ${end}`;
      middle = [(start[0] + end[0]) / 2, 22];
    }
    group.append(make('path', { d: path, 'marker-end': `url(#state-tip${isMade ? '-made' : ''})` }));
    const label = make('text', side
      ? { x: middle[0] + (side === 'left' ? -14 : 14), y: middle[1] + 8, 'text-anchor': side === 'left' ? 'end' : 'start' }
      : { x: middle[0], y: middle[1] - (bend ? 0 : 9), 'text-anchor': 'middle' });
    label.textContent = cause;
    group.append(label);
    svg.append(group);
  }
  const used = new Set(transitions.flatMap(([from, to]) => [from, to]));
  for (const [name, [x, y]] of Object.entries(STATES)) {
    if (!used.has(name)) continue;
    const isNow = card && card.phase === name;
    const group = make('g', { class: `state ${name}${isNow ? ' now' : ''}` });
    group.append(make('rect', { x: x - BOX[0] / 2, y: y - BOX[1] / 2, width: BOX[0], height: BOX[1], rx: 8 }));
    const label = make('text', { x, y: y + 8, 'text-anchor': 'middle' });
    label.textContent = name;
    group.append(label);
    svg.append(group);
  }
  return svg;
}
