// The laboratory's buttons. They act as the client of the selected card, otherwise as the one that
// entered last.
'use strict';

const BUTTONS = [
  ['A new client', [['enter', 'right passcode'], ['wrong', 'wrong passcode'], ['silent', 'no passcode'], ['no-show', 'does not connect'], ['knock', 'no ticket'], ['never-read', 'never reads']]],
  ['A seated client', [['say', 'to partner'], ['everyone', 'to everyone'], ['room', 'to a room'], ['flood', 'floods'], ['stop', 'stops'], ['continue', 'continues'], ['terminate', 'TERMINATE'], ['vanish', 'closes']]],
];

const bar = element('nav');
bar.id = 'lab';
// In the laboratory, captions do not wait for *Next*.
timeline.hasBegun = true;
const result = element('p', '', 'Press a button. Select a card to choose the client; Esc closes its panel.');
result.id = 'lab-result';
result.setAttribute('role', 'status');

// The port of the card that was selected last, also after its panel was closed.
let selected = null;
document.addEventListener('click', () => setTimeout(() => {
  const seat = state.chosen && state.chosen.seat;
  if (!seat || seat === selected) return;
  selected = seat;
  write(result, 'The buttons now act as the client on port ' + seat + '.');
}));

async function press(action) {
  // A card without a client selects nothing.
  const card = state.cards.get(selected);
  const seat = card && card.phase !== 'free' ? selected : null;
  write(result, '…');
  // The button acts on the present state, so the page shows that.
  if (timeline.mode !== 'live' && timeline.speed >= 1) timeline.toEnd();
  const answer = await fetch('lab/' + action + (seat ? '?seat=' + seat : ''), { method: 'POST' }).catch(() => null);
  write(result, answer ? await answer.text() : 'the laboratory does not respond');
  result.classList.toggle('bad', !answer || !answer.ok);
  showStopped();
}

/** Marks the clients that are stopped: the server can't know it. */
async function showStopped() {
  const answer = await fetch('lab/stopped').catch(() => null);
  const seats = answer && answer.ok ? (await answer.text()).split(' ') : [];
  for (const place of document.querySelectorAll('.place')) place.classList.toggle('stopped', seats.includes(place.id.slice('place-'.length)));
}
setInterval(showStopped, 2000);

for (const [title, buttons] of BUTTONS) {
  const group = element('p', 'group');
  group.append(element('b', '', title + ': '));
  for (const [action, words] of buttons) {
    const button = element('button', '', words);
    button.dataset.action = action;
    button.addEventListener('click', () => press(action));
    group.append(button);
  }
  bar.append(group);
}
bar.append(result);
document.body.insertBefore(bar, $('events-side'));
