-- Made from schema/models.py by `pandom docs`.
-- Forced, too: whoever becomes the owner is under it.
set local role pandom_trail;

alter table public.trail_blocks enable row level security;
alter table public.trail_blocks force row level security;
