"""Say where a token stands: one registry for every model.

Four moments, each the identity unless the kind needs it (`Positions`): *add* a code to the tokens once;
compute the rotary *tables* once; *rotate* queries and keys in every layer, before they are cached; *relate*
queries to all keys, cached ones included.
"""

from finscale.models.layers.positions.contract import Positions, Related
from finscale.models.layers.positions.registry import POSITION_BUILDERS, build_positions
from finscale.models.layers.positions.rotary import apply_rotary, rope_table

__all__ = [
    "POSITION_BUILDERS",
    "Positions",
    "Related",
    "apply_rotary",
    "build_positions",
    "rope_table",
]
