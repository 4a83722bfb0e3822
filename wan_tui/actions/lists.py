"""What the keys do in every list."""

from __future__ import annotations

from wan_tui.actions.action import Action

ACTIONS = (
    Action("list.down", "j,down", "Down", "One row down.", False),
    Action("list.up", "k,up", "Up", "One row up.", False),
    Action("list.page-down", "ctrl+d,ctrl+f,pagedown", "Page down", "A page down.", False),
    Action("list.page-up", "ctrl+u,pageup", "Page up", "A page up.", False),
    Action("list.first", "g,home", "First", "To the first row.", False),
    Action("list.last", "G,end", "Last", "To the last row.", False),
    Action("list.choose", "enter", "Open", "Open what is under the cursor.", False),
    Action("list.filter", "slash", "Filter", "Show only rows that hold some words; Esc shows all again.", True),
)
