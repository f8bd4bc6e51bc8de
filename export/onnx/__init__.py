"""ONNX files: conversion, and passes over their graphs."""
