"""How far the stacked engine is from PEFT, over small models of every family."""
