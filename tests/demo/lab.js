// The laboratory's buttons. They act as the client of the selected card, otherwise as the one that
// entered last.
'use strict';

const BUTTONS = [
  ['A new client', [['enter', 'right passcode'], ['wrong', 'wrong passcode'], ['silent', 'no passcode'], ['no-show', 'does not connect'], ['knock', 'no ticket'], ['never-read', 'never reads']]],
  ['A seated client', [['say', 'to partner'], ['everyone', 'to everyone'], ['room', 'to a room'], ['flood', 'floods'], ['stop', 'stops'], ['continue', 'continues'], ['terminate', 'TERMINATE'], ['vanish', 'closes']]],
];

const bar = element('nav');
bar.id = 'lab';
const result = element('p', '', 'Press a button. Select a card to choose the client.');
result.id = 'lab-result';
result.setAttribute('role', 'status');

async function press(action) {
  const seat = state.chosen && state.chosen.seat;
  write(result, '…');
  const answer = await fetch('lab/' + action + (seat ? '?seat=' + seat : ''), { method: 'POST' }).catch(() => null);
  write(result, answer ? await answer.text() : 'the laboratory does not respond');
  result.classList.toggle('bad', !answer || !answer.ok);
}

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
