-- Made from schema/models.py by `pandom docs`.
-- Forced, too: whoever becomes the owner is under it.
set local role pandom_owner;

alter table public.sessions enable row level security;
alter table public.sessions force row level security;
