// Menus and dialogs, which work with the keyboard as WAI-ARIA's patterns say.

const $ = (id) => document.getElementById(id);

let openedMenu = null;

function closeMenu(returnFocus) {
  if (!openedMenu) return;
  const { menu, anchor } = openedMenu;
  openedMenu = null;
  menu.remove();
  anchor.setAttribute('aria-expanded', 'false');
  if (returnFocus && anchor.isConnected) anchor.focus({ preventScroll: true });
}

/** Opens a menu at an element. `items` are `{ label, action, isDanger }`, or `null` for a line between groups. */
function openMenu(anchor, items) {
  const wasOpen = openedMenu?.anchor === anchor;
  closeMenu();
  if (wasOpen) return;
  const menu = element('div', 'menu');
  menu.setAttribute('role', 'menu');
  for (const item of items) {
    if (!item) {
      const line = element('div', 'rule');
      line.setAttribute('role', 'separator');
      menu.append(line);
      continue;
    }
    const button = buttonOf(item.label, item.isDanger ? 'danger' : '', () => {
      closeMenu(true);
      item.action();
    });
    button.setAttribute('role', 'menuitem');
    button.tabIndex = -1;
    menu.append(button);
  }
  // In the part of the page that it belongs to, for those who move from part to part.
  (anchor.closest('main, nav, aside') ?? document.body).append(menu);
  const at = anchor.getBoundingClientRect();
  const { width, height } = menu.getBoundingClientRect();
  const left = Math.max(8, Math.min(at.right - width, innerWidth - width - 8));
  const below = at.bottom + 4 + height <= innerHeight;
  const top = below ? at.bottom + 4 : Math.max(8, at.top - height - 4);
  menu.style.setProperty('left', `${left}px`);
  menu.style.setProperty('top', `${top}px`);
  openedMenu = { menu, anchor };
  anchor.setAttribute('aria-expanded', 'true');
  menu.querySelector('button').focus();
  menu.addEventListener('keydown', (event) => {
    const buttons = [...menu.querySelectorAll('button')];
    const at = buttons.indexOf(document.activeElement);
    const steps = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 };
    if (event.key === 'Escape' || event.key === 'Tab') {
      event.preventDefault();
      event.stopPropagation();
      closeMenu(true);
    } else if (event.key in steps) {
      event.preventDefault();
      buttons.at(steps[event.key] % buttons.length).focus();
    }
  });
}

document.addEventListener('pointerdown', (event) => {
  if (openedMenu && !openedMenu.menu.contains(event.target) && !openedMenu.anchor.contains(event.target)) closeMenu();
});

/**
 * Asks for values in a dialog. Calls `done` with them by name, unless the user cancels it. `done` may
 * return a sentence that says what is wrong, and the dialog stays open.
 */
function ask({ title, text, fields = [], content, submit, isDanger, done }) {
  const dialog = element('dialog');
  const form = element('form');
  form.method = 'dialog';
  const heading = element('h2', '', title);
  heading.id = 'dialog-title';
  dialog.setAttribute('aria-labelledby', heading.id);
  form.append(heading);
  if (text) form.append(element('p', '', text));
  const inputs = fields.map((field) => {
    const label = element('label', 'field', field.label);
    const input = element('input');
    Object.assign(input, {
      name: field.name,
      type: field.type ?? 'text',
      value: field.value ?? '',
      required: field.isRequired ?? false,
    });
    if (field.max) input.maxLength = field.max;
    if (field.hint) input.placeholder = field.hint;
    if (field.autocomplete) input.autocomplete = field.autocomplete;
    if (field.isName) {
      input.autocapitalize = 'off';
      input.spellcheck = false;
      input.autocomplete = 'off';
    }
    label.append(input);
    form.append(label);
    return input;
  });
  if (content) form.append(content);
  const wrong = element('p', 'wrong');
  wrong.setAttribute('role', 'alert');
  const buttons = element('div', 'buttons');
  buttons.append(buttonOf(submit ? 'Cancel' : 'Close', '', () => dialog.close()));
  if (submit) {
    const button = element('button', isDanger ? 'primary danger' : 'primary', submit);
    button.type = 'submit';
    buttons.append(button);
  }
  form.append(wrong, buttons);
  dialog.append(form);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const values = Object.fromEntries(
      inputs.map((input) => [input.name, input.type === 'password' ? input.value : input.value.trim()]),
    );
    const why = done?.(values);
    if (why) wrong.textContent = why;
    else dialog.close();
  });
  dialog.addEventListener('close', () => dialog.remove());
  dialog.addEventListener('pointerdown', (event) => {
    if (event.target === dialog) dialog.close();
  });
  document.body.append(dialog);
  dialog.showModal();
  dialog.wrong = (why) => {
    wrong.textContent = why;
  };
  return dialog;
}

/** Puts text on the clipboard. Pages over plain http have no clipboard of their own. */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const box = element('textarea', 'unseen', '');
    box.value = text;
    document.body.append(box);
    box.select();
    document.execCommand('copy');
    box.remove();
  }
  toast('Copied');
}

/** Shows a word at the bottom of the page for a moment. */
function toast(text) {
  const place = $('toast');
  place.textContent = text;
  place.classList.add('is-shown');
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => {
    place.classList.remove('is-shown');
    place.textContent = '';
  }, 2500);
}
