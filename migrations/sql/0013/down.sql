-- Takes back: Numbers for monitoring.
set local role pandom_trail;
drop function public.measure_trail();
drop function public.measure_backup();
set local role pandom_definer;
drop function public.measure_activity();
set local role pandom_owner;
