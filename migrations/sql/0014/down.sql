-- Takes back: Backups are noted, and drills compared, by a login of their own.
set local role pandom_trail;

drop function public.note_recovery(text, jsonb);
drop function public.trail_heads();

set local role pandom_owner;

drop function public.row_counts();
