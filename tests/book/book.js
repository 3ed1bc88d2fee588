// Finds the pages with all the words that were typed.
'use strict';

const input = document.getElementById('search');
const found = document.getElementById('found');

input.addEventListener('input', () => {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  found.replaceChildren();
  if (words.length === 0) return;
  for (const { f, t, x } of INDEX) {
    const text = (t + ' ' + x).toLowerCase();
    if (!words.every((word) => text.includes(word))) continue;
    const link = document.createElement('a');
    link.href = f;
    link.textContent = t;
    const place = x.toLowerCase().indexOf(words[0]);
    const excerpt = document.createElement('div');
    excerpt.textContent = place < 0 ? '' : '…' + x.slice(Math.max(0, place - 30), place + 50) + '…';
    const item = document.createElement('li');
    item.append(link, excerpt);
    found.append(item);
  }
  if (!found.firstChild) found.textContent = 'No page has all these words.';
});
